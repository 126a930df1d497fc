// A log that somebody altered behind the server's back, at the position in `CONSOLE_ALTERED`.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, launch, open, visit } from './support/browser.js';
import { request } from './support/server.js';

const ALTERED = Number(process.env.CONSOLE_ALTERED);
let browser;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

test('a log that was altered is told with the first bad position', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/integrity');
  await page.getByRole('button', { name: 'Verify the whole log' }).click();
  await page.getByText(`First bad position: ${ALTERED}`).first().waitFor();
  await page.locator('[data-role=verification] [data-verdict=bad]').waitFor();
  await page.getByText('altered', { exact: true }).waitFor();
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the altered event is not proven, and its stream is told by the first bad sequence', async () => {
  const { page, context, troubles } = await open(browser);
  const { data } = await request('GET', `/api/v1/events?after=${ALTERED - 1}&limit=1`);
  const [event] = data.events;
  await visit(page, `#/integrity?position=${ALTERED}&stream=${event.aggregate_id}`);
  await page.locator('[data-role=proof] [data-verdict=bad]').waitFor();
  await page.getByText(`First bad sequence: ${event.sequence}`).waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the event before it is proven still', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, `#/integrity?position=${ALTERED - 1}`);
  await page.locator('[data-role=proof] [data-verdict=good]').waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});
