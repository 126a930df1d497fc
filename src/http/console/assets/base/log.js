// The newest events of the log, although the API reads it forwards: windows from the head back, that grow while little is
// found and shrink while too much is.

import { get } from './api.js';

const LIMIT = 1_000;
const WINDOW_FIRST = 500;
const READS_MAX = 24;

/**
 * Up to about `wanted` events at or before `end`, newest first, and where to go on: `{ events, before }`, `before` 0 at
 * the beginning of the log.
 */
export async function newest(query, end, wanted, signal) {
  const events = [];
  let window = WINDOW_FIRST;
  let before = end;
  for (let reads = 0; reads < READS_MAX && before > 0 && events.length < wanted; reads += 1) {
    const after = Math.max(0, before - window);
    const page = await get('/api/v1/events', { ...query, after, limit: LIMIT }, signal);
    if (page.next_cursor < before && page.events.length >= LIMIT && window > LIMIT) {
      window = Math.max(LIMIT, window >> 2);
      continue;
    }
    const found = page.events.filter((event) => event.position <= before);
    let cursor = page.next_cursor;
    while (cursor < before && found.length < LIMIT) {
      const more = await get('/api/v1/events', { ...query, after: cursor, limit: LIMIT }, signal);
      if (more.next_cursor <= cursor) break;
      cursor = more.next_cursor;
      found.push(...more.events.filter((event) => event.position <= before));
    }
    if (cursor < before && found.length >= LIMIT && window > LIMIT) {
      // The newest of the window were not reached.
      window = Math.max(LIMIT, window >> 2);
      continue;
    }
    events.push(...found.reverse());
    before = after;
    window *= 4;
  }
  return { events, before };
}
