// What operators do: rebuild with its progress, pause and resume, sagas cancelled, the log verified, an event proven.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, launch, open, settled, visit } from './support/browser.js';
import { append, cancelled, command, eventually, request, sealed, seed, waitingTransfer } from './support/server.js';

const METERS = 'readings_by_meter';
let browser;
let seeds;

before(async () => {
  browser = await launch();
  seeds = await seed('operations');
  for (let page = 0; page < 3; page += 1) await append('operations-meter', Array.from({ length: 1000 }, (_, n) => ({ event_type: 'MeterRead', data: { amount: n } })));
});
after(() => browser?.close());

const card = (page, name) => page.locator(`[data-projection="${name}"]`);

test('a rebuild is begun, followed and told', async () => {
  const { page, context, troubles } = await open(browser);
  const before = (await request('GET', '/api/v1/operations?limit=1000')).data.items.length;
  await visit(page, '#/projections');
  await card(page, 'account_balance').getByRole('button', { name: 'Rebuild' }).click();
  await card(page, 'account_balance').locator('.operation[data-status="succeeded"]').waitFor();
  await page.getByText('account_balance: rebuild succeeded').waitFor();
  const { items } = (await request('GET', '/api/v1/operations?limit=1000')).data;
  assert.equal(items.length, before + 1);
  assert.equal(items[0].status, 'succeeded');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the progress of a rebuild is seen while it runs, and it can be cancelled', async () => {
  const { page, context, troubles } = await open(browser);
  const meters = card(page, METERS);
  await visit(page, '#/projections');
  // One event a transaction. It is paused on its way, so that it stands still to be looked at; should it have been over
  // before that, it begins again.
  let operation;
  await eventually('a rebuild is under way', async () => {
    await meters.getByRole('button', { name: 'Rebuild' }).click();
    await meters.locator('.operation[data-status="running"]').waitFor();
    [operation] = (await request('GET', '/api/v1/operations?limit=1')).data.items;
    const now = async () => (await request('GET', `/api/v1/operations/${operation.operation_id}`)).data;
    await eventually('some of it is done', async () => (await now()).progress.done > 0);
    await request('POST', `/api/v1/projections/${METERS}/pause`);
    await eventually('it stands still', async () => {
      const { done } = (await now()).progress;
      await page.waitForTimeout(500);
      return (await now()).progress.done === done;
    });
    if ((await now()).status === 'running') return true;
    await request('POST', `/api/v1/projections/${METERS}/resume`);
    await meters.locator('.operation[data-status="succeeded"]').waitFor();
    return false;
  });
  await page.waitForSelector(`[data-projection="${METERS}"][data-status="paused"]`);
  const shown = async () => Number(await meters.locator('.operation progress').getAttribute('value'));
  await eventually('the progress is shown', async () => (await shown()) > 0);
  assert.ok((await shown()) < 100, String(await shown()));
  assert.deepEqual(await axe(page), []);
  await meters.locator('.operation').getByRole('button', { name: 'Cancel' }).click();
  await meters.getByRole('button', { name: 'Resume' }).click();
  await meters.locator('.operation[data-status="cancelled"]').waitFor();
  assert.equal((await request('GET', `/api/v1/operations/${operation.operation_id}`)).data.status, 'cancelled');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a projection is paused and resumed', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/projections');
  const board = card(page, 'user_activity');
  await board.getByRole('button', { name: 'Pause' }).click();
  await page.waitForSelector('[data-projection="user_activity"][data-status="paused"]');
  await board.getByRole('button', { name: 'Resume' }).click();
  await page.waitForSelector('[data-projection="user_activity"][data-status="live"]');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('parked events are listed with what to do, and skipping asks first', async () => {
  const { page, context, troubles } = await open(browser);
  const id = 'meter-<b>bold</b>';
  const { position } = await append(id, [{ event_type: 'MeterRead', data: { amount: 'seven' } }, { event_type: 'MeterRead', data: { amount: 8 } }]);
  const first = position - 1;
  const parked = async () => (await request('GET', `/api/v1/projections/${METERS}/parked`)).data.items;
  await eventually('both are parked', async () => (await parked()).length === 2);
  await visit(page, '#/projections');
  const meters = card(page, METERS);
  await meters.getByText('must be a whole number of 64 bits').first().waitFor();
  await meters.getByRole('button', { name: 'Parked events' }).click();
  const row = (at) => meters.locator('.parked li', { hasText: String(at) }).first();
  await row(first).getByText('meter-<b>bold</b>').waitFor();
  await meters.locator('.parked').getByText(`waits for event ${first}`).waitFor();
  assert.deepEqual(await axe(page), []);
  await row(first).getByRole('button', { name: 'Retry' }).click();
  await page.locator('.operation', { hasText: 'parked retry' }).waitFor();
  await row(first).getByRole('button', { name: 'Skip' }).click();
  await page.getByRole('button', { name: 'Leave it' }).click();
  assert.equal((await parked()).length, 2, 'nothing was left out');
  await row(first).getByRole('button', { name: 'Skip' }).click();
  await page.getByRole('button', { name: 'Skip it' }).click();
  await row(first).getByText('skipped').waitFor();
  const rows = await request('POST', '/api/v1/queries', { query_type: 'GetView', projection: METERS, filters: { key: id } });
  assert.equal(rows.data.data.total, 8, 'what came after it counts');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('sagas are filtered, drawn with their way back, and lead to their causation', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/sagas?status=compensated');
  await settled(page);
  const statuses = await page.locator('tbody tr').evaluateAll((rows) => rows.map((row) => row.dataset.status));
  assert.ok(statuses.length > 0 && statuses.every((status) => status === 'compensated'), String(statuses));
  await visit(page, `#/sagas/${seeds.undone.saga_id}`);
  await page.locator('.journey .step-compensated').waitFor();
  assert.equal(await page.locator('.journey .step-refused').count(), 1);
  assert.equal(await page.locator('.journey .undo-compensated').count(), 1);
  await page.locator('dd a[href^="#/causation/"]').click();
  await page.locator('.graph .node').first().waitFor();
  const { events } = (await request('GET', `/api/v1/events?correlation_id=${seeds.undone.correlation_id}`)).data;
  assert.equal(await page.locator('.graph .node').count(), events.length);
  assert.equal(await page.locator('.graph .lane').count(), new Set(events.map((event) => event.aggregate_id)).size);
  assert.equal(await page.locator('.graph .edge, .graph .together').count(), events.length, 'every event has its cause');
  await page.locator('.graph .node').first().focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: `Position ${events[0].position}` }).waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a saga that is under way is cancelled after a question', async () => {
  const { page, context, troubles } = await open(browser);
  const { saga_id: id } = await waitingTransfer(seeds.from, seeds.closed, 30);
  await visit(page, `#/sagas/${id}`);
  await page.getByRole('heading', { name: 'TransferSaga' }).waitFor();
  await page.locator('.journey .step-completed').waitFor();
  await page.getByRole('cell', { name: 'set' }).first().waitFor();
  await page.getByRole('button', { name: 'Cancel and undo' }).click();
  await page.getByRole('button', { name: 'Leave it' }).click();
  assert.equal((await request('GET', `/api/v1/sagas/${id}`)).data.status, 'running');
  await page.getByRole('button', { name: 'Cancel and undo' }).click();
  await page.getByRole('button', { name: 'Cancel it' }).click();
  await page.waitForSelector('[data-saga-status="compensated"]');
  await page.locator('.journey .undo-compensated').waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a saga that an operator must help is found on the overview, and goes on after that', async () => {
  const { page, context, troubles } = await open(browser);
  const id = 'operations-full';
  const sent = await request('POST', '/api/v1/commands', `{"command_type":"CreateAccount","aggregate_id":"${id}","data":{"owner":"Ada","initial_balance":9223372036854775807}}`);
  assert.equal(sent.status, 200);
  const { saga_id: saga } = await waitingTransfer(id, seeds.closed, 100);
  // Full again: what was withdrawn cannot come back.
  await command('DepositMoney', id, { amount: 100 });
  assert.equal((await cancelled(saga)).status, 'failed');
  await visit(page, '#/overview');
  await page.getByText('1 need an operator').waitFor();
  await page.getByRole('link', { name: /^Sagas/ }).last().click();
  await page.locator('tbody tr[data-status="failed"] a').click();
  await page.waitForSelector('[data-saga-status="failed"]');
  await page.locator('.journey .undo-failed').waitFor();
  assert.deepEqual(await axe(page), []);
  await command('WithdrawMoney', id, { amount: 100 });
  await page.getByRole('button', { name: 'Retry' }).click();
  await page.waitForSelector('[data-saga-status="compensated"]');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the whole log is verified, and an event proven by the browser itself', async () => {
  const { page, context, troubles } = await open(browser);
  const { position } = await command('DepositMoney', seeds.from, { amount: 1 });
  await sealed(position);
  await visit(page, '#/integrity');
  await page.getByText('signature checked here').waitFor();
  await page.getByRole('button', { name: 'Verify the whole log' }).click();
  await page.locator('[data-role=verification] [data-verdict=good]').waitFor();
  await page.getByLabel('Position').fill(String(position));
  await page.getByRole('button', { name: 'Prove it here' }).click();
  await page.locator('[data-role=proof] [data-verdict=good]').waitFor();
  assert.equal(await page.locator('[data-role=proof] .badge-good').count(), 5);
  await page.getByLabel('Aggregate id').fill(seeds.from);
  await page.getByRole('button', { name: 'Verify', exact: true }).click();
  await page.getByText('The stream is what was recorded').waitFor();
  await page.getByText('intact').first().waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

for (const [what, change] of [
  ['amount', (text) => text.replace('"amount":1', '"amount":2')],
  ['instant', (text) => text.replace(/"recorded_at":"(\d{4})/, '"recorded_at":"2001')],
  ['checksum too', (text) => text.replace('"amount":1', '"amount":2').replace(/"checksum":"./, '"checksum":"f')],
]) {
  test(`an event whose ${what} was changed on the way is not proven`, async () => {
    const { page, context } = await open(browser);
    const { position } = await command('DepositMoney', seeds.from, { amount: 1 });
    await sealed(position);
    await page.route('**/api/v1/events?**', async (route) => {
      const answer = await route.fetch();
      return route.fulfill({ response: answer, body: change(await answer.text()) });
    });
    await visit(page, `#/integrity?position=${position}`);
    await page.locator('[data-role=proof] [data-verdict=bad]').waitFor();
    await context.close();
  });
}
