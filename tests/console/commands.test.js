// Sending: dry run, send, refusals, the curl line; the forms that this server's own schemas make; queries; branches; settings;
// and programs that embed less.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { axe, launch, open, settled, visit } from './support/browser.js';
import { branch, command, request } from './support/server.js';

let browser;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

const asJson = (page) => page.getByRole('button', { name: 'As JSON' }).click();

test('a command is tried, sent, and refused the second time', async () => {
  const { page, context, troubles } = await open(browser, { allowed: [/\/api\/v1\/commands/] });
  await visit(page, '#/commands');
  await asJson(page);
  const body = { command_type: 'CreateAccount', aggregate_id: "sent-o'hara", data: { owner: 'Ada', initial_balance: 5 } };
  await page.getByLabel('Body').fill(JSON.stringify(body));
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.locator('[data-dry="true"]').waitFor();
  assert.equal((await request('GET', `/api/v1/aggregates/${encodeURIComponent(body.aggregate_id)}`)).status, 404, 'a dry run records nothing');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.locator('[data-dry="false"]').waitFor();
  assert.equal((await request('GET', `/api/v1/aggregates/${encodeURIComponent(body.aggregate_id)}`)).data.state.balance, 5);
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.locator('[data-role=outcome] .state-error').waitFor();
  await page.getByLabel('Body').fill('{"command_type": ');
  await page.getByText('The body is no JSON yet').first().waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the curl line does the same, whatever is in the body', async () => {
  const { page, context } = await open(browser);
  await visit(page, '#/commands');
  await asJson(page);
  const body = { command_type: 'CreateAccount', aggregate_id: "curl 'quoted' $HOME `id` \"x\"", data: { owner: 'Ada', initial_balance: 5 } };
  await page.getByLabel('Body').fill(JSON.stringify(body));
  const line = await page.locator('.curl code').textContent();
  const answer = JSON.parse(execFileSync('bash', ['-c', `${line} --silent --show-error`], { encoding: 'utf8' }));
  assert.equal(answer.aggregate_id, body.aggregate_id);
  await context.close();
});

test('a form is made of the schemas, nested lists included', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/commands');
  await page.getByLabel('Type', { exact: true }).selectOption('CreateOrder');
  await page.getByLabel('aggregate_id *').fill('form-order');
  await page.getByLabel('customer_id *').fill('form-customer');
  for (let times = 0; times < 2; times += 1) await page.getByRole('button', { name: 'Add' }).click();
  await page.getByRole('button', { name: 'Remove' }).last().click();
  await page.getByLabel('product_id *').fill('form-product');
  await page.getByLabel('quantity *').fill('2');
  await page.getByLabel('unit_price *').fill('9007199254740993');
  const line = await page.locator('.curl code').textContent();
  const [, sent] = /-d '(.*)'$/.exec(line);
  assert.match(sent, /"unit_price":9007199254740993[,}]/, 'no digit is lost');
  const { data } = JSON.parse(sent);
  assert.deepEqual(data, { customer_id: 'form-customer', items: [{ product_id: 'form-product', quantity: 2, unit_price: Number('9007199254740993') }] });
  assert.deepEqual(await axe(page), []);
  await page.getByLabel('unit_price *').fill('30');
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.locator('[data-dry="true"]').waitFor();
  await asJson(page);
  assert.match(await page.getByLabel('Body').inputValue(), /"form-product"/);
  await page.getByRole('button', { name: 'As a form' }).click();
  await page.getByLabel('Type', { exact: true }).waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the form sends a command, and is ready for the next one of the aggregate', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/commands?command=CreateAccount');
  await page.getByLabel('aggregate_id *').fill('described-account');
  await page.getByLabel('owner *').fill('Ada');
  await page.getByLabel('initial_balance *').fill('7');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.locator('[data-dry="false"] a').first().click();
  await page.waitForSelector('.state-place[data-sequence="1"]');
  await page.getByRole('link', { name: 'Send a command' }).click();
  await page.getByLabel('Type', { exact: true }).waitFor();
  assert.equal(await page.getByLabel('Type', { exact: true }).inputValue(), 'DepositMoney');
  assert.equal(await page.getByLabel('aggregate_id *').inputValue(), 'described-account');
  await page.getByLabel('amount *').fill('5');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.locator('[data-dry="false"]').waitFor();
  assert.equal((await request('GET', '/api/v1/aggregates/described-account')).data.state.balance, 12);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a query is asked by a form, and its answer says what it stands for', async () => {
  const { page, context, troubles } = await open(browser, { allowed: [/\/api\/v1\/queries/] });
  const { position } = await command('CreateAccount', 'asked-account', { owner: 'Ada', initial_balance: 1234 });
  await visit(page, '#/queries?query=GetAccountBalance');
  await page.getByLabel('account_id *').fill('asked-account');
  await page.getByRole('button', { name: 'Ask', exact: true }).click();
  const found = page.locator('[data-role=found]');
  await found.getByText('1234').waitFor();
  const told = await found.getByText(/^[\d,]+ \/ [\d,]+$/).textContent();
  assert.ok(Number(told.split('/')[0].replaceAll(',', '')) >= position, told);
  assert.match(await page.locator('.curl code').textContent(), /api\/v1\/queries/);
  assert.deepEqual(await axe(page), []);
  await page.getByLabel('account_id *').fill('nobody');
  await page.getByRole('button', { name: 'Ask', exact: true }).click();
  await page.locator('[data-role=outcome] .state-error').waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a saga is started and leads to its page', async () => {
  const { page, context, troubles } = await open(browser);
  await command('CreateAccount', 'start-a', { owner: 'A', initial_balance: 9 });
  await command('CreateAccount', 'start-b', { owner: 'B', initial_balance: 0 });
  await visit(page, '#/commands?kind=saga');
  await asJson(page);
  await page.getByLabel('Body').fill(JSON.stringify({ saga_type: 'TransferSaga', data: { from_account: 'start-a', to_account: 'start-b', amount: 4 } }));
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await page.locator('[data-role=outcome] a').click();
  await page.waitForSelector('[data-saga-status="completed"]');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the token goes with every request, streams included, and never into the address or the storage that stays', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/settings');
  await page.getByLabel('Token').fill('secret-canary');
  await page.getByRole('button', { name: 'Use it' }).click();
  const seen = [];
  page.on('request', (sent) => sent.url().includes('/api/') && seen.push([sent.headers().accept, sent.headers().authorization]));
  const followed = page.waitForRequest((sent) => sent.headers().accept === 'text/event-stream');
  await page.goto(`${page.url().split('#')[0]}#/events?live=1`);
  await followed;
  await page.getByText('listening').waitFor();
  assert.ok(seen.length > 1 && seen.every(([, token]) => token === 'Bearer secret-canary'), JSON.stringify(seen));
  assert.ok(seen.some(([accept]) => accept === 'text/event-stream'));
  assert.ok(!page.url().includes('canary'));
  assert.ok(!(await page.evaluate(() => JSON.stringify({ ...localStorage }))).includes('canary'));
  await visit(page, '#/commands');
  await settled(page);
  const line = await page.locator('.curl').textContent();
  assert.ok(line.includes('$TOKEN') && !line.includes('canary'), line);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a branch is forked, tried out, compared, and merged once main takes it', async () => {
  const { page, context, troubles } = await open(browser, { allowed: [/\/merge/] });
  const { position } = await command('CreateAccount', 'branched', { owner: 'Ada', initial_balance: 100 });
  await visit(page, '#/branches');
  await page.getByLabel('Name').fill('what <if>');
  await page.getByLabel('Sequence or position').fill(String(position));
  await page.getByRole('button', { name: 'Fork' }).click();
  await page.getByRole('heading', { name: 'what <if>' }).waitFor();
  await page.getByText('Nothing differs').waitFor();
  const id = decodeURIComponent(page.url().split('#/branches/')[1]);
  await page.getByRole('link', { name: 'Send a command to the branch' }).click();
  await page.getByLabel('Type', { exact: true }).selectOption('WithdrawMoney');
  await page.getByLabel('aggregate_id *').fill('branched');
  await page.getByLabel('amount *').fill('70');
  assert.match(await page.locator('.curl code').textContent(), new RegExp(`commands\\?branch=${id}'`));
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.locator('[data-dry="true"]').waitFor();
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.locator('[data-dry="false"] a').first().click();
  // The aggregate as it is on the branch; main knows nothing of it.
  await page.waitForSelector('.state-place[data-sequence="2"]');
  await page.locator('.state-place [data-name="balance"]', { hasText: '30' }).waitFor();
  assert.equal((await request('GET', '/api/v1/aggregates/branched')).data.state.balance, 100);
  await visit(page, `#/branches/${id}`);
  await page.getByRole('link', { name: 'Ask the branch' }).click();
  await page.getByLabel('account_id *').fill('branched');
  await page.getByRole('button', { name: 'Ask', exact: true }).click();
  await page.locator('[data-role=found]').getByText('30', { exact: true }).waitFor();
  await visit(page, `#/aggregates/branched?branch=${id}`);
  await page.getByRole('link', { name: 'The same on main' }).click();
  await page.waitForSelector('.state-place[data-sequence="1"]');
  await command('WithdrawMoney', 'branched', { amount: 90 });
  await visit(page, `#/branches/${id}`);
  await page.getByRole('rowheader', { name: '/balance' }).waitFor();
  await page.getByRole('button', { name: 'Try the merge' }).click();
  await page.getByText('(insufficient-funds)').waitFor();
  await page.getByRole('button', { name: 'Merge', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Merge', exact: true }).click();
  await page.getByText('Main refuses some of it').waitFor();
  assert.deepEqual(await axe(page), []);
  await command('DepositMoney', 'branched', { amount: 60 });
  await page.getByRole('button', { name: 'Try the merge' }).click();
  await page.getByText('This can be merged').waitFor();
  assert.equal((await request('GET', '/api/v1/aggregates/branched')).data.state.balance, 70, 'trying changes nothing');
  await page.getByRole('button', { name: 'Merge', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Merge', exact: true }).click();
  await page.getByText('merged', { exact: true }).waitFor();
  assert.equal((await request('GET', '/api/v1/aggregates/branched')).data.state.balance, 0);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('branches are drawn where they fork, and deleted after a question', async () => {
  const { page, context, troubles } = await open(browser, { allowed: [/unknown/] });
  const { position } = await command('CreateAccount', 'drawn', { owner: 'Ada', initial_balance: 100 });
  const id = await branch('drawn branch', { at_position: position }, [['DepositMoney', 'drawn', { amount: 1 }]]);
  await visit(page, '#/branches');
  await page.locator(`.branches a[href="#/branches/${id}"]`).waitFor();
  await settled(page);
  assert.deepEqual(await axe(page), []);
  const row = page.locator('tbody tr', { hasText: 'drawn branch' });
  await row.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('button', { name: 'Leave it' }).click();
  assert.equal((await request('GET', `/api/v1/branches/${id}`)).status, 200);
  await row.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('button', { name: 'Delete it' }).click();
  await row.waitFor({ state: 'detached' });
  assert.equal((await request('GET', `/api/v1/branches/${id}`)).status, 404);
  assert.deepEqual(troubles, []);
  await context.close();
});

// This program has all of these; one that embeds the crate may keep no branches and show no settings, and there is no such
// program to be started here.
test('a build without branches, schemas or settings over HTTP says so', async () => {
  const { page, context, troubles } = await open(browser, { allowed: [/\/(branches|config|openapi\.json)$/] });
  const absent = { status: 404, contentType: 'application/problem+json', body: '{"code":"not-found","status":404,"detail":"there is no such path"}' };
  for (const path of ['branches', 'config', 'openapi.json']) await page.route(`**/api/v1/${path}`, (route) => route.fulfill(absent));
  await visit(page, '#/branches');
  await page.getByText('Not in this build: branches').waitFor();
  await visit(page, '#/settings');
  await page.getByText('Not in this build: settings over HTTP').waitFor();
  await visit(page, '#/commands');
  await page.getByText('This build describes no schemas').waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('settings are shown with their sources and searched', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/settings');
  await page.getByLabel('Search settings').fill('log_level');
  const level = page.getByRole('row', { name: /^log\.level info/ });
  await level.getByText('environment LOG_LEVEL').waitFor();
  await page.getByLabel('Search settings').fill('');
  const { items } = (await request('GET', '/api/v1/config')).data;
  const rows = page.locator('.settings tbody tr');
  assert.equal(await rows.count(), items.length);
  await page.getByLabel('Only what was set').check();
  assert.equal(await rows.count(), items.filter(({ source }) => source !== 'default').length);
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(troubles, []);
  await context.close();
});
