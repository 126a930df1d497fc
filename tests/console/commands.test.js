// Sending: dry run, send, refusals, the curl line; the form that schemas make; a token that is sent; builds that lack parts.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { axe, launch, open, settled, visit } from './support/browser.js';
import { command, request } from './support/server.js';

let browser;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

const object = (properties, required = Object.keys(properties)) => ({ type: 'object', additionalProperties: false, properties, required });
const text = { type: 'string' };
const integer = { type: 'integer', format: 'int64' };
const schemaOf = (name, data) => object({ command_type: { const: name }, aggregate_id: text, data });
/** As product.md has it: one schema per command, a discriminator. */
const OPENAPI = {
  openapi: '3.1.0',
  paths: { '/api/v1/commands': { post: { requestBody: { content: { 'application/json': { schema: { oneOf: [{ $ref: '#/components/schemas/CreateAccount' }, { $ref: '#/components/schemas/CreateOrder' }], discriminator: { propertyName: 'command_type', mapping: { CreateAccount: '#/components/schemas/CreateAccount', CreateOrder: '#/components/schemas/CreateOrder' } } } } } } } } },
  components: { schemas: { CreateAccount: schemaOf('CreateAccount', { $ref: '#/components/schemas/CreateAccountData' }), CreateAccountData: object({ owner: text, initial_balance: integer }), CreateOrder: schemaOf('CreateOrder', object({ customer_id: text, items: { type: 'array', items: object({ product_id: text, quantity: integer, unit_price: integer }) }, note: { anyOf: [text, integer] } }, ['customer_id', 'items'])) } },
};
const withoutSchemas = (page) => page.route('**/api/v1/openapi.json', (route) => route.fulfill({ status: 404, contentType: 'application/problem+json', body: '{"code":"not-found","status":404,"detail":"there is no such path"}' }));
const withSchemas = (page) => page.route('**/api/v1/openapi.json', (route) => route.fulfill({ json: OPENAPI }));

test('a command is tried, sent, and refused the second time', async () => {
  const { page, context, troubles } = await open(browser, { allowed: [/\/api\/v1\/commands/] });
  await withoutSchemas(page);
  await visit(page, '#/commands');
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
  await withoutSchemas(page);
  await visit(page, '#/commands');
  const body = { command_type: 'CreateAccount', aggregate_id: "curl 'quoted' $HOME `id` \"x\"", data: { owner: 'Ada', initial_balance: 5 } };
  await page.getByLabel('Body').fill(JSON.stringify(body));
  const line = await page.locator('.curl code').textContent();
  const answer = JSON.parse(execFileSync('bash', ['-c', `${line} --silent --show-error`], { encoding: 'utf8' }));
  assert.equal(answer.aggregate_id, body.aggregate_id);
  await context.close();
});

test('a form is made of the schemas, nested lists included', async () => {
  const { page, context, troubles } = await open(browser);
  await withSchemas(page);
  await visit(page, '#/commands');
  await page.getByLabel('Type', { exact: true }).selectOption('CreateOrder');
  await page.getByLabel('aggregate_id *').fill('form-order');
  await page.getByLabel('customer_id *').fill('form-customer');
  await page.getByLabel('product_id *').fill('form-product');
  await page.getByLabel('quantity *').fill('2');
  await page.getByLabel('unit_price *').fill('9007199254740993');
  await page.getByRole('button', { name: 'Add' }).click();
  await page.getByRole('button', { name: 'Remove' }).last().click();
  const line = await page.locator('.curl code').textContent();
  assert.ok(line.includes('{"command_type":"CreateOrder","aggregate_id":"form-order","data":{"customer_id":"form-customer","items":[{"product_id":"form-product","quantity":2,"unit_price":9007199254740993}]}}'), line);
  assert.deepEqual(await axe(page), []);
  await page.getByLabel('unit_price *').fill('30');
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.locator('[data-dry="true"]').waitFor();
  await page.getByRole('button', { name: 'As JSON' }).click();
  assert.match(await page.getByLabel('Body').inputValue(), /"form-product"/);
  await page.getByRole('button', { name: 'As a form' }).click();
  await page.getByLabel('Type', { exact: true }).waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the form that this very server describes sends a command', async (t) => {
  const { page, context, troubles } = await open(browser);
  if ((await request('GET', '/api/v1/openapi.json')).status === 404) {
    await context.close();
    t.skip('this build describes no schemas');
    return;
  }
  await visit(page, '#/commands?command=CreateAccount');
  await page.getByLabel('Type', { exact: true }).selectOption('CreateAccount');
  await page.getByLabel('aggregate_id *').fill('described-account');
  await page.getByLabel('owner *').fill('Ada');
  await page.getByLabel('initial_balance *').fill('7');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.locator('[data-dry="false"]').waitFor();
  assert.equal((await request('GET', '/api/v1/aggregates/described-account')).data.state.balance, 7);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a saga is started and leads to its page', async () => {
  const { page, context, troubles } = await open(browser);
  await command('CreateAccount', 'start-a', { owner: 'A', initial_balance: 9 });
  await command('CreateAccount', 'start-b', { owner: 'B', initial_balance: 0 });
  await withoutSchemas(page);
  await visit(page, '#/commands?kind=saga');
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

test('branches are drawn, compared, tried and merged', async () => {
  const { page, context, troubles } = await open(browser, { allowed: [/\/merge/] });
  const branch = { branch_id: 'b-1', name: 'what <if>', fork_position: 3, status: 'open' };
  const commands = [{ command_type: 'DepositMoney', aggregate_id: 'acc', outcome: 'accepted', rejection: null }];
  const asked = [];
  await page.route('**/api/v1/branches', (route) => (route.request().method() === 'POST' ? route.fulfill({ status: 201, json: branch }) : route.fulfill({ json: { items: [branch], next_cursor: null } })));
  await page.route('**/api/v1/branches/b-1', (route) => route.fulfill({ json: branch }));
  await page.route('**/api/v1/branches/b-1/diff', (route) => route.fulfill({ json: { items: [{ aggregate_id: 'acc', main: { version: 2, events: [] }, branch: { version: 3, events: [{}] }, changes: [{ path: '/balance', from: 1, to: 4 }] }], next_cursor: null } }));
  await page.route('**/api/v1/branches/b-1/merge', (route) => {
    asked.push(route.request().postDataJSON());
    const isDry = route.request().postDataJSON().dry_run;
    const refused = [{ ...commands[0], outcome: 'rejected', rejection: 'account-closed' }];
    return isDry ? route.fulfill({ json: { merged: false, commands } }) : route.fulfill({ status: 409, contentType: 'application/problem+json', json: { code: 'merge-conflict', status: 409, title: 'Merge conflict', detail: 'refused', merged: false, commands: refused } });
  });
  await visit(page, '#/branches');
  await page.locator('.branches .branch').waitFor();
  await settled(page);
  assert.deepEqual(await axe(page), []);
  await page.getByRole('link', { name: 'what <if>', exact: true }).last().click();
  await page.getByRole('rowheader', { name: '/balance' }).waitFor();
  await page.getByRole('button', { name: 'Try the merge' }).click();
  await page.getByText('This can be merged').waitFor();
  await page.getByRole('button', { name: 'Merge', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Merge', exact: true }).click();
  await page.getByText('account-closed').waitFor();
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(asked, [{ dry_run: true }, { dry_run: false }]);
  const sent = page.waitForRequest((request) => request.method() === 'POST' && request.url().includes('/api/v1/commands'));
  await page.route('**/api/v1/commands?branch=b-1&dry_run=true', (route) => route.fulfill({ json: { aggregate_id: 'acc', version: 4, position: 9, events: [] } }));
  await withoutSchemas(page);
  await page.getByRole('link', { name: 'Send a command to the branch' }).click();
  assert.match(await page.locator('.curl code').textContent(), /commands\?branch=b-1'/);
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.locator('[data-dry="true"]').waitFor();
  assert.match((await sent).url(), /branch=b-1/);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a build without branches, schemas or settings over HTTP says so', async () => {
  const { page, context, troubles } = await open(browser);
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
  await page.route('**/api/v1/config', (route) => route.fulfill({ json: [{ key: 'http.bind_address', value: '127.0.0.1:8000', source: 'default' }, { key: 'log.level', value: 'debug', source: 'LOG_LEVEL' }] }));
  await visit(page, '#/settings');
  await page.getByLabel('Search settings').fill('log_level');
  await page.getByRole('rowheader', { name: 'log.level' }).waitFor();
  assert.equal(await page.locator('tbody tr').count(), 1);
  assert.deepEqual(troubles, []);
  await context.close();
});
