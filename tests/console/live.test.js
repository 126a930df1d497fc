// The log, newest first, and its live tail: it receives, it pauses, it filters, it goes on after a break, and its memory
// stays flat.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, visit } from './support/browser.js';
import { append, command, eventually } from './support/server.js';
import { wire } from './support/wire.js';

/** Seconds of 500 events a second; the full minute is for machines that have the time. */
const SECONDS = Number(process.env.CONSOLE_HEAP_SECONDS ?? 10);
const WRITERS = 4;
const GROWTH_MAX = 6 << 20;
const ROWS_MAX = 200;
let browser;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

const goLive = async (page, hash = '#/events', base = undefined) => {
  await visit(page, hash, base);
  // It first asks where the log stands; what is recorded after that must come in.
  const followed = page.waitForRequest((request) => request.headers().accept === 'text/event-stream');
  await page.getByRole('button', { name: 'Live' }).click();
  await followed;
  await page.getByText('listening').waitFor();
};
const row = (page, id) => page.locator('tbody tr', { hasText: id });

test('a filter that is sent anew begins with the newest event of the stream', async () => {
  const { page, context, troubles } = await open(browser);
  await append('log-long', Array.from({ length: 150 }, (_, n) => ({ event_type: 'LogLong', data: { n } })));
  await visit(page, '#/events?aggregate=log-long');
  const sequences = page.locator('tbody tr td:nth-child(5)');
  await sequences.first().waitFor();
  const answered = page.waitForResponse(/events\/log-long/);
  await page.getByRole('button', { name: 'Filter' }).click();
  await answered;
  await eventually('a page', async () => (await sequences.count()) > 0);
  assert.equal(await sequences.first().textContent(), '150');
  await page.getByRole('button', { name: 'Older events' }).click();
  await eventually('all of them', async () => (await sequences.count()) === 150);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('the newest events of a filter are there, however unevenly they lie in the log', async () => {
  const { page, context, troubles } = await open(browser);
  // One in 25, then none for longer than the server looks at once.
  const [batches, rareBatches] = [26, 14];
  const expected = [];
  for (let batch = 0; batch < batches; batch += 1) {
    const isRare = (n) => batch < rareBatches && n % 25 === 0;
    const { events } = await append('rare', Array.from({ length: 1000 }, (_, n) => ({ event_type: isRare(n) ? 'Rare' : 'Common', data: {} })));
    expected.unshift(...events.filter((event) => event.event_type === 'Rare').map((event) => event.position).reverse());
  }
  await visit(page, '#/events?event_type=Rare');
  const positions = page.locator('tbody tr td:nth-child(1)');
  await positions.first().waitFor();
  const shown = async () => (await positions.allTextContents()).map(Number);
  assert.deepEqual(await shown(), expected.slice(0, 100));
  while (await page.getByRole('button', { name: 'Older events' }).count()) {
    const before = await positions.count();
    await page.getByRole('button', { name: 'Older events' }).click();
    await eventually('more of them, or the end', async () => (await positions.count()) > before || (await page.getByRole('button', { name: 'Older events' }).count()) === 0);
  }
  assert.deepEqual(await shown(), expected);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('events come in as they are recorded, and wait while it is paused', async () => {
  const { page, context, troubles } = await open(browser);
  await goLive(page);
  await command('CreateAccount', 'live-1', { owner: 'Ada', initial_balance: 1 });
  await row(page, 'live-1').waitFor();
  await page.getByRole('button', { name: 'Pause' }).click();
  await command('CreateAccount', 'live-2', { owner: 'Ada', initial_balance: 1 });
  await page.getByText('2 received').waitFor();
  assert.equal(await row(page, 'live-2').count(), 0);
  await page.getByRole('button', { name: 'Go on' }).click();
  await row(page, 'live-2').waitFor();
  assert.deepEqual(troubles, []);
  await context.close();
});

test('filters hold for what comes live', async () => {
  const { page, context, troubles } = await open(browser);
  await goLive(page, '#/events?event_type=MoneyDeposited');
  await command('CreateAccount', 'live-3', { owner: 'Ada', initial_balance: 1 });
  await command('DepositMoney', 'live-3', { amount: 1 });
  await row(page, 'live-3').waitFor();
  assert.deepEqual(await page.locator('tbody tr td:nth-child(3)').allTextContents(), ['MoneyDeposited']);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('after a break it goes on where it was, without a gap and without a duplicate', async () => {
  const { base, cut, close } = await wire();
  const { page, context } = await open(browser, { base });
  await goLive(page, '#/events?aggregate_type=generic', base);
  await append('live-gap', [{ event_type: 'LiveGap', data: { n: 1 } }]);
  await row(page, 'live-gap').waitFor();
  const followedAgain = page.waitForRequest((request) => request.headers().accept === 'text/event-stream' && request.headers()['last-event-id'] !== '0');
  assert.ok(cut() > 0, 'a connection stood');
  await page.getByText('the connection broke').waitFor();
  await append('live-gap', [{ event_type: 'LiveGap', data: { n: 2 } }]);
  await followedAgain;
  await append('live-gap', [{ event_type: 'LiveGap', data: { n: 3 } }]);
  await eventually('all three rows', async () => (await row(page, 'live-gap').count()) === 3);
  const sequences = await row(page, 'live-gap').locator('td:nth-child(5)').allTextContents();
  assert.deepEqual(sequences, ['3', '2', '1']);
  await context.close();
  close();
});

test(`the heap stays flat at 500 events a second for ${SECONDS} s`, async () => {
  const { page, context, troubles } = await open(browser);
  const session = await context.newCDPSession(page);
  // Rows that have just left are not always gone by one collection: the least of some looks is what is held.
  const heap = async () => {
    const looks = [];
    for (let times = 0; times < 6; times += 1) {
      await session.send('HeapProfiler.collectGarbage');
      looks.push((await session.send('Runtime.getHeapUsage')).usedSize);
      await page.waitForTimeout(250);
    }
    return Math.min(...looks);
  };
  await goLive(page);
  const events = (round) => Array.from({ length: 100 }, (_, index) => ({ event_type: 'Measured', data: { round, index, text: 'x'.repeat(200) } }));
  let sent = 0;
  // A machine that is busy with other things makes fewer: the time is what is kept to.
  const load = async (seconds) => {
    const begun = Date.now();
    const writer = async (number) => {
      for (let round = 0; Date.now() - begun < seconds * 1000; round += 1) {
        await append(`heap-${number}`, events(round));
        sent += 100;
        const rest = begun + (round + 1) * 200 * WRITERS - Date.now();
        if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, (_, number) => writer(number)));
  };
  await load(3);
  const first = await heap();
  const atFirst = sent;
  await load(SECONDS);
  const received = async () => Number(/([\d,]+) received/.exec(await page.locator('[data-role=counter]').textContent())[1].replaceAll(',', ''));
  await eventually('everything came in', async () => (await received()) >= sent);
  const last = await heap();
  assert.ok((await page.locator('tbody tr').count()) <= ROWS_MAX);
  assert.ok(last - first < GROWTH_MAX, `the heap grew by ${last - first} bytes, from ${first}, with ${sent} events`);
  console.log(`# heap ${first} -> ${last} bytes, ${Math.round((sent - atFirst) / SECONDS)} events a second for ${SECONDS} s`);
  assert.deepEqual(troubles, []);
  await context.close();
});
