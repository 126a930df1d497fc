// Time travel: the right state at each sequence and instant, what changed, two versions, play.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, settled, visit } from './support/browser.js';
import { command, request } from './support/server.js';

const ID = 'travel/口座 1';
const balances = [null, 100];
let browser;
let instants;

before(async () => {
  browser = await launch();
  await command('CreateAccount', ID, { owner: 'Ada', initial_balance: 100 });
  for (let step = 1; step <= 12; step += 1) {
    const amount = step * 7;
    await command(step % 3 === 0 ? 'WithdrawMoney' : 'DepositMoney', ID, { amount });
    balances.push(balances.at(-1) + (step % 3 === 0 ? -amount : amount));
  }
  const { data } = await request('GET', `/api/v1/events/${encodeURIComponent(ID)}`);
  instants = data.events.map((event) => event.recorded_at);
});
after(() => browser?.close());

const hash = (query = '') => `#/aggregates/${encodeURIComponent(ID)}${query}`;
const at = (page, sequence) => page.waitForSelector(`.state-place[data-sequence="${sequence}"]`, { state: 'attached' });
const balance = async (page) => (await page.locator('.state-place [data-name="balance"] > .entry-line > .value').textContent()).replaceAll(',', '');
const slide = (page, value) =>
  page.locator('input[type=range]').evaluate((range, to) => {
    range.value = String(to);
    range.dispatchEvent(new Event('input', { bubbles: true }));
  }, value);

test('the slider shows the state after each event, with what it changed', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, hash());
  const version = balances.length - 1;
  await at(page, version);
  assert.equal(await balance(page), String(balances[version]));
  for (let sequence = version - 1; sequence >= 1; sequence -= 1) {
    await slide(page, sequence);
    await at(page, sequence);
    assert.equal(await balance(page), String(balances[sequence]), `sequence ${sequence}`);
    await page.waitForSelector(`.event-place[data-sequence="${sequence}"]`);
    const changed = await page.locator('.state-place .is-changed').evaluateAll((rows) => rows.map((row) => row.dataset.name));
    assert.deepEqual(changed, sequence === 1 ? [] : ['balance']);
  }
  assert.equal(await page.locator('.state-place .is-new').count(), 4, 'the first event makes all four members');
  await slide(page, 0);
  await page.getByText('Nothing has happened yet').waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a quick hand ends where it stops, whatever arrives late', async () => {
  const { page, context } = await open(browser);
  await page.route('**/api/v1/aggregates/**at_sequence=*', async (route) => {
    // The earlier it was asked for, the later it comes.
    const sequence = Number(new URL(route.request().url()).searchParams.get('at_sequence'));
    await new Promise((resolve) => setTimeout(resolve, sequence % 2 === 0 ? 300 : 20));
    await route.continue();
  });
  await visit(page, hash('?at=12'));
  for (const sequence of [2, 4, 6, 8, 5]) await slide(page, sequence);
  await at(page, 5);
  await page.waitForTimeout(500);
  assert.equal(await page.locator('.state-place').getAttribute('data-sequence'), '5');
  assert.equal(await balance(page), String(balances[5]));
  assert.match(page.url(), /at=5/);
  await context.close();
});

test('arrows, fields and instants move it', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, hash('?at=4'));
  await at(page, 4);
  await page.locator('input[type=range]').focus();
  await page.keyboard.press('ArrowRight');
  await at(page, 5);
  assert.match(await page.locator('input[type=range]').getAttribute('aria-valuetext'), /event 5 of 13/);
  await page.getByRole('button', { name: 'One event back' }).click();
  await at(page, 4);
  await page.getByLabel('Sequence', { exact: true }).last().fill('9');
  await page.keyboard.press('Enter');
  await at(page, 9);
  await page.goto(`about:blank`);
  await visit(page, hash(`?time=${encodeURIComponent(instants[6])}`));
  await at(page, 7);
  assert.equal(await balance(page), String(balances[7]));
  await page.getByRole('button', { name: 'Time', exact: true }).click();
  await slide(page, 10_000);
  await at(page, 13);
  await slide(page, 0);
  await page.getByText('Nothing has happened yet').waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('two versions are compared, and play runs to the end', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, hash('?at=10&with=2'));
  await at(page, 10);
  const row = page.locator('.compared tbody tr');
  await row.waitFor();
  const texts = (await row.locator('th, td').allTextContents()).map((text) => text.replaceAll(',', ''));
  assert.equal(texts[0], '/balance');
  assert.equal(texts[1], String(balances[2]));
  assert.ok(texts[2].startsWith(String(balances[10])));
  await page.getByLabel('Speed').selectOption('10');
  await page.getByRole('button', { name: 'Play' }).click();
  await at(page, 13);
  await page.getByRole('button', { name: 'Play' }).waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('an open page grows with its stream', async () => {
  const { page, context, troubles } = await open(browser);
  const id = 'travel-growing';
  await command('CreateAccount', id, { owner: 'Ada', initial_balance: 1 });
  await visit(page, `#/aggregates/${id}`);
  await at(page, 1);
  await command('DepositMoney', id, { amount: 41 });
  await at(page, 2);
  assert.equal(await balance(page), '42');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('numbers beyond what JavaScript holds keep their digits', async () => {
  const { page, context, troubles } = await open(browser);
  const id = 'travel-large';
  const body = `{"command_type":"CreateAccount","aggregate_id":"${id}","data":{"owner":"Ada","initial_balance":9007199254740993}}`;
  const answer = await fetch(`${process.env.CONSOLE_URL}/api/v1/commands`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  assert.equal(answer.status, 200);
  await visit(page, `#/aggregates/${id}`);
  await at(page, 1);
  assert.equal(await balance(page), '9007199254740993');
  assert.match(await page.locator('.event-place .json').textContent(), /9007199254740993/);
  await settled(page);
  assert.deepEqual(troubles, []);
  await context.close();
});
