// A server that wants to know who asks: the token is asked for kindly, kept where it is said to be kept, and what it may not
// do is told.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, launch, open, settled, violations, visit } from './support/browser.js';
import { eventually, request } from './support/server.js';

const { CONSOLE_READER: READER, CONSOLE_OPERATOR: OPERATOR } = process.env;
/** Refusals are what is looked at here. */
const allowed = [/\/api\/v1\//, /\/version$/];
let browser;

before(async () => {
  browser = await launch();
  // A server learns of new keys within a second or so.
  const isKnown = async (key) => (await request('GET', '/api/v1/aggregates', undefined, { authorization: `Bearer ${key}` })).status === 200;
  for (const key of [READER, OPERATOR]) await eventually('the key is known', () => isKnown(key));
});
after(() => browser?.close());

const dialog = (page) => page.getByRole('dialog', { name: 'Who are you?' });
async function signIn(page, token) {
  await dialog(page).getByLabel('Token').fill(token);
  await dialog(page).getByRole('button', { name: 'Use it' }).click();
}

for (const theme of ['light', 'dark']) {
  for (const width of [1280, 320]) {
    test(`the question for a token is accessible, ${theme}, ${width} px`, async () => {
      const { page, context, troubles } = await open(browser, { theme, width, allowed });
      await visit(page, '#/overview');
      await dialog(page).waitFor();
      assert.deepEqual([...(await axe(page)), ...(await violations(page)), ...troubles], []);
      await context.close();
    });
  }
}

test('whoever says no is left alone on that page, and asked again on the next', async () => {
  const { page, context, troubles } = await open(browser, { allowed });
  await visit(page, '#/projections');
  await dialog(page).getByRole('button', { name: 'Not now' }).click();
  // The board looks every second: it is refused again meanwhile.
  await page.waitForResponse((response) => response.status() === 401);
  await page.waitForResponse((response) => response.status() === 401);
  assert.equal(await page.locator('dialog').count(), 0);
  await page.getByRole('link', { name: 'Set a token' }).waitFor();
  await page.getByRole('link', { name: 'Events', exact: true }).click();
  await dialog(page).waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a wrong token is asked for again, a right one opens the page that was wanted', async () => {
  const { page, context, troubles } = await open(browser, { allowed });
  await visit(page, '#/aggregates');
  await signIn(page, 'escqrs_wrong');
  await dialog(page).getByText('is not accepted here').waitFor();
  await signIn(page, READER);
  await page.getByText('There are no aggregates yet').waitFor();
  assert.equal(await page.locator('dialog').count(), 0);
  await page.reload();
  await page.getByText('There are no aggregates yet').waitFor();
  assert.equal(await page.locator('dialog').count(), 0, 'the tab remembers it');
  assert.ok(!page.url().includes(READER));
  assert.ok(!(await page.evaluate(() => JSON.stringify({ ...localStorage }))).includes(READER));
  assert.equal(await page.evaluate(() => document.cookie), '');
  const other = await context.newPage();
  await other.goto(`${process.env.CONSOLE_URL}/console#/aggregates`);
  await dialog(other).waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('what a token may not do is told with what would help', async () => {
  const { page, context, troubles } = await open(browser, { allowed });
  await visit(page, '#/projections');
  await signIn(page, READER);
  const card = page.locator('[data-projection="inventory"]');
  await card.getByRole('button', { name: 'Rebuild' }).click();
  await card.getByText('Your token may not do this').waitFor();
  assert.equal(await page.locator('dialog').count(), 0, 'who they are is known');
  await visit(page, '#/settings');
  await page.getByText('Your token may not do this').waitFor();
  await settled(page);
  assert.deepEqual(await axe(page), []);
  await page.getByLabel('Token').fill(OPERATOR);
  await page.getByRole('button', { name: 'Use it' }).click();
  await page.getByLabel('Search settings').waitFor();
  await page.getByRole('button', { name: 'Forget it' }).click();
  assert.equal(await page.evaluate(() => JSON.stringify({ ...sessionStorage })), '{}');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('an operator rebuilds, and follows what happens live', async () => {
  const { page, context, troubles } = await open(browser, { allowed });
  await visit(page, '#/projections');
  await signIn(page, OPERATOR);
  const card = page.locator('[data-projection="inventory"]');
  await card.getByRole('button', { name: 'Rebuild' }).click();
  await card.locator('.operation[data-status="succeeded"]').waitFor();
  await page.getByRole('link', { name: 'Events', exact: true }).click();
  const followed = page.waitForResponse((response) => response.request().headers().accept === 'text/event-stream');
  await page.getByRole('button', { name: 'Live' }).click();
  assert.equal((await followed).status(), 200);
  assert.deepEqual(troubles, []);
  await context.close();
});
