// Texts that would like to be code or markup stay texts, wherever they come from.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, settled, violations, visit } from './support/browser.js';
import { append, branch, command, request } from './support/server.js';

const CORPUS = [
  '<img src=x onerror=window.owned=1>',
  '<script>window.owned=1</script>',
  '"><svg onload=window.owned=1>',
  "' onmouseover='window.owned=1",
  'javascript:window.owned=1',
  '</title><script>window.owned=1</script>',
  '{{constructor.constructor("window.owned=1")()}}',
  '${window.owned=1}',
  '<iframe srcdoc="<script>parent.owned=1</script>">',
  '<math><mtext></mtext><mglyph><style><img src=x onerror=window.owned=1>',
  '__proto__',
  'constructor',
  '‮gnirts edirrevo',
  '<b>bold</b>&amp;&lt;',
  'a/b?c#d%2e%2e',
];
const branches = [];
let browser;

before(async () => {
  browser = await launch();
  for (const [index, text] of CORPUS.entries()) {
    const { position } = await command('CreateAccount', text, { owner: text, initial_balance: index + 1 });
    branches.push(await branch(text, { at_position: position }, [['DepositMoney', text, { amount: 1 }]]));
    await append(`hostile-stream-${index}`, [{ event_type: `Hostile${index}`, data: { [text]: text, nested: [{ [text]: [text] }] } }]);
  }
});
after(() => browser?.close());

/** Elements that no page of the console makes. */
const FOREIGN = 'main script, main img, main iframe, main b, main math, main style, main object, main embed, [onerror], [onload], [onmouseover], a[href^="javascript:" i]';

async function assertHarmless(page, name) {
  assert.equal(await page.evaluate(() => window.owned), undefined, name);
  assert.equal(await page.locator(FOREIGN).count(), 0, name);
  assert.deepEqual(await violations(page), [], name);
}

test('hostile ids, owners and payloads are shown as what they are', async () => {
  const { page, context, troubles } = await open(browser);
  for (const text of CORPUS) {
    await visit(page, `#/aggregates/${encodeURIComponent(text)}`);
    await page.waitForSelector('.state-place[data-sequence="1"]');
    await settled(page);
    assert.equal(await page.locator('h1').textContent(), text);
    assert.equal(await page.locator('.state-place [data-name="owner"] .value').textContent(), text);
    await assertHarmless(page, text);
  }
  for (const [index, text] of CORPUS.entries()) {
    await visit(page, `#/events?aggregate=hostile-stream-${index}`);
    await page.locator('tbody button').first().click();
    const shown = await page.locator('.detail .json').first().textContent();
    assert.ok(shown.includes(JSON.stringify(text)), shown);
    await assertHarmless(page, text);
  }
  for (const [index, text] of CORPUS.entries()) {
    await visit(page, `#/branches/${branches[index]}`);
    await page.getByRole('rowheader', { name: '/balance' }).waitFor();
    assert.equal(await page.locator('h1').textContent(), text);
    await assertHarmless(page, text);
  }
  assert.deepEqual(troubles, []);
  await context.close();
});

test('hostile texts in lists, searches, addresses and refusals stay texts', async () => {
  const { page, context, troubles } = await open(browser, { allowed: [/\/api\/v1\//] });
  for (const hash of ['#/aggregates', '#/events', '#/overview', '#/branches']) {
    await visit(page, hash);
    await settled(page);
    await assertHarmless(page, hash);
  }
  for (const [index, text] of CORPUS.entries()) {
    // What no server knows comes back within the sentence of its error.
    const unknown = `unknown ${text}`;
    const hashes = [`#/aggregates/${encodeURIComponent(unknown)}`, `#/sagas/${encodeURIComponent(unknown)}`, `#/causation/${encodeURIComponent(unknown)}`, `#/${encodeURIComponent(unknown)}`, `#/events?event_type=${encodeURIComponent(unknown)}`, `#/integrity?stream=${encodeURIComponent(unknown)}`];
    // The first ones everywhere, the others in turns: all of them everywhere would take minutes.
    for (const hash of hashes.filter((_, place) => index < 3 || place % 3 === index % 3)) {
      await visit(page, hash);
      await settled(page);
      await assertHarmless(page, hash);
    }
    await page.keyboard.press('/');
    const palette = page.getByRole('dialog');
    await palette.getByRole('combobox').fill(text);
    await palette.getByRole('option').first().waitFor();
    await assertHarmless(page, `palette ${text}`);
    await page.keyboard.press('Escape');
  }
  const { data } = await request('GET', `/api/v1/aggregates/${encodeURIComponent(`unknown ${CORPUS[0]}`)}`);
  await visit(page, `#/aggregates/${encodeURIComponent(`unknown ${CORPUS[0]}`)}`);
  await page.getByText(data.detail).waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});
