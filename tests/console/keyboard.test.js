// Keys, language, theme and charts.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { axe, launch, open, settled, visit } from './support/browser.js';
import { command } from './support/server.js';

const ASSETS = new URL('../../src/http/console/assets/', import.meta.url);
let browser;

before(async () => {
  browser = await launch();
  await command('CreateAccount', 'palette-account', { owner: 'Ada', initial_balance: 1 });
});
after(() => browser?.close());

test('the palette opens by a key and leads to pages, ids and positions', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/overview');
  await settled(page);
  const find = async (text, heading) => {
    await page.keyboard.press('/');
    await page.keyboard.type(text);
    await page.waitForTimeout(400);
    assert.deepEqual(await axe(page), []);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: heading }).waitFor();
    await settled(page);
  };
  await find('metr', 'Metrics');
  await find('palette-acc', 'palette-account');
  await find('1', 'Events');
  assert.match(page.url(), /position=1$/);
  await page.keyboard.press('Control+k');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('dialog').count(), 0);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the skip link comes first, and focus is always visible', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/aggregates/palette-account');
  await page.waitForSelector('.state-place[data-sequence="1"]');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  for (let stops = 0; stops < 40; stops += 1) {
    const shown = await page.evaluate(() => {
      const element = document.activeElement;
      const style = getComputedStyle(element);
      const area = element.querySelector?.('.node-area');
      return element === document.body || style.outlineStyle !== 'none' || (area && getComputedStyle(area).stroke !== 'none') ? null : element.outerHTML.slice(0, 120);
    });
    assert.equal(shown, null);
    await page.keyboard.press('Tab');
  }
  await visit(page, '#/aggregates/palette-account');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('after a step to another page the heading has the focus, and back leads back', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/overview');
  await page.getByRole('link', { name: 'Sagas' }).first().click();
  await page.waitForSelector('h1:text("Sagas")');
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'H1');
  await page.goBack();
  await page.waitForSelector('h1:text("Overview")');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the language follows the browser, can be switched, and stays', async () => {
  const { page, context, troubles } = await open(browser, { locale: 'ja-JP' });
  await visit(page, '#/events');
  await page.waitForSelector('h1:text("イベント")');
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'ja');
  await settled(page);
  assert.deepEqual(await axe(page), []);
  await page.getByRole('button', { name: 'English' }).click();
  await page.waitForSelector('h1:text("Events")');
  await page.reload();
  await page.waitForSelector('h1:text("Events")');
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'en');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the theme follows the system, can be switched, and stays', async () => {
  const { page, context } = await open(browser, { theme: 'dark' });
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  await visit(page, '#/overview');
  const dark = await ground();
  await page.getByRole('button', { name: 'Light or dark' }).click();
  const light = await ground();
  assert.notEqual(dark, light);
  await page.reload();
  await page.waitForSelector('main h1');
  assert.equal(await ground(), light);
  await context.close();
});

test('every text has its Japanese, and no Japanese is left over', async () => {
  const { japanese } = await import(new URL('words/ja.js', ASSETS));
  const used = new Set();
  let code = '';
  for (const folder of ['base', 'parts', 'pages']) {
    for (const file of readdirSync(new URL(`${folder}/`, ASSETS))) {
      const text = readFileSync(new URL(`${folder}/${file}`, ASSETS), 'utf8');
      code += text;
      for (const [, key] of text.matchAll(/\bt\(\s*'((?:[^'\\]|\\.)*)'/g)) used.add(key);
      for (const [, one, other] of text.matchAll(/\bt\([^'()]+\? '([^']*)' : '([^']*)'[,)]/g)) [one, other].forEach((key) => used.add(key));
    }
  }
  assert.ok(used.size > 300, `${used.size} texts were found`);
  assert.deepEqual([...used].filter((key) => !Object.hasOwn(japanese, key)), [], 'without Japanese');
  // Words of the API (statuses, kinds) are looked up by name.
  const words = ['cancel', 'cancelled', 'catching up', 'compensated', 'compensating', 'completed', 'fail', 'failed', 'fired', 'gone', 'integrity verify', 'live', 'merged', 'new', 'open', 'outdated', 'parked retry', 'parked skip', 'pass', 'pause', 'pending', 'projection rebuild', 'rebuild', 'rebuilding', 'refused', 'resume', 'rollback', 'rolled back', 'running', 'set', 'skipped', 'stopped', 'subject erase', 'succeeded', 'unowned', 'warn'];
  assert.deepEqual(Object.keys(japanese).filter((key) => !used.has(key) && !words.includes(key)), [], 'never used');
  for (const [key, text] of Object.entries(japanese)) {
    const places = (words) => [...words.matchAll(/\{\w+\}/g)].map(([place]) => place).sort();
    assert.deepEqual(places(text), places(key), key);
  }
  assert.ok(!/\bt\(`/.test(code), 'texts are never built before they are looked up');
});

test('metrics become curves with values in words', async () => {
  const { page, context, troubles } = await open(browser);
  await visit(page, '#/metrics');
  const chart = page.locator('.chart', { hasText: 'Events recorded' });
  await chart.waitFor();
  await command('DepositMoney', 'palette-account', { amount: 1 });
  await page.waitForFunction(() => {
    const plot = [...document.querySelectorAll('.chart')].find((card) => card.textContent.includes('HTTP requests')).querySelector('svg');
    return /all: [\d.]+\/s/.test(plot.getAttribute('aria-label')) && plot.querySelector('.line-1').getAttribute('d').includes('L');
  });
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(troubles, []);
  await context.close();
});
