// Every page, in both themes and both widths: no error, no violation of the policy, nothing that axe objects to.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, launch, open, settled, violations, visit } from './support/browser.js';
import { append, branch, command, eventually, request, sealed, seed } from './support/server.js';

let browser;
let pages;

before(async () => {
  browser = await launch();
  const { from, completed, waiting, undone } = await seed('pages');
  await command('RegisterUser', 'pages-user', { user_id: 'pages-user', email: 'ada@example.org', name: 'Ada' });
  const erasure = (await request('POST', '/api/v1/subjects/pages-user/erase')).data;
  await eventually('a person is erased', async () => (await request('GET', `/api/v1/operations/${erasure.operation_id}`)).data.status === 'succeeded');
  await append('pages-meter', [{ event_type: 'MeterRead', data: { amount: 'seven' } }]);
  const fork = await branch('a branch with a name that is longer than the place for it', { at_position: 3 }, [['DepositMoney', from, { amount: 5 }]]);
  const head = (await request('GET', '/api/v1/projections')).data.items[0].head;
  await sealed(head);
  pages = {
    overview: '#/overview',
    events: '#/events',
    'one event': '#/events?position=3',
    aggregates: '#/aggregates',
    'time travel': `#/aggregates/${from}?at=2`,
    'before the first event': `#/aggregates/${from}?at=0`,
    'two versions': `#/aggregates/${from}?at=3&with=1`,
    'on a branch': `#/aggregates/${from}?branch=${fork}`,
    'an erased person': '#/aggregates/pages-user',
    'a generic stream': '#/aggregates/pages-meter',
    causation: '#/causation',
    'causation of a saga': `#/causation/${undone.correlation_id}`,
    queries: '#/queries',
    commands: '#/commands',
    'start of a saga': '#/commands?kind=saga',
    projections: '#/projections',
    sagas: '#/sagas',
    'a saga that went well': `#/sagas/${completed.saga_id}`,
    'a saga that waits': `#/sagas/${waiting.saga_id}`,
    'a saga that was undone': `#/sagas/${undone.saga_id}`,
    branches: '#/branches',
    'a branch': `#/branches/${fork}`,
    integrity: `#/integrity?position=1&stream=${from}`,
    metrics: '#/metrics',
    settings: '#/settings',
    'no page': '#/nowhere',
  };
});
after(() => browser?.close());

for (const theme of ['light', 'dark']) {
  for (const width of [1280, 320]) {
    test(`every page is sound and accessible, ${theme}, ${width} px`, async () => {
      const { page, context, troubles } = await open(browser, { theme, width });
      for (const [name, hash] of Object.entries(pages)) {
        await visit(page, hash);
        await settled(page);
        const found = [...(await axe(page)), ...(await violations(page))];
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wide > 0) found.push(`${wide} px too wide`);
        if ((await page.title()) === 'Console') found.push('no title');
        troubles.push(...found.map((finding) => `${name}: ${finding}`));
      }
      assert.deepEqual(troubles, []);
      await context.close();
    });
  }
}

test('the menu of small screens opens, and its open state is accessible', async () => {
  const { page, context, troubles } = await open(browser, { width: 320 });
  await visit(page, '#/overview');
  await settled(page);
  await page.getByRole('button', { name: 'Menu' }).click();
  assert.deepEqual(await axe(page), []);
  await page.getByRole('link', { name: 'Sagas', exact: true }).first().click();
  await page.waitForSelector('h1:text("Sagas")');
  assert.equal(await page.getByRole('button', { name: 'Menu' }).getAttribute('aria-expanded'), 'false');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a policy that is broken would be noticed, and so would axe', async () => {
  const { page, context } = await open(browser);
  await visit(page, '#/settings');
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.setAttribute('src', 'data:text/javascript,1');
    document.body.append(script);
  }).catch(() => null);
  await page.evaluate(() => {
    const picture = document.createElement('img');
    document.querySelector('main').append(picture);
    const link = document.createElement('link');
    link.rel = 'stylesheet';
    link.href = 'http://192.0.2.1/x.css';
    document.head.append(link);
  });
  await page.waitForFunction(() => window.violations.length > 0);
  assert.ok((await axe(page)).some((finding) => finding.startsWith('image-alt')));
  await context.close();
});
