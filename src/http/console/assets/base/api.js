// The public HTTP API: requests, problems, and events as they come. Nothing else in the console talks to a server.

import { parse, stringify } from './json.js';
import { session } from './session.js';

/** Said to the window when the server wants to know who asks. */
export const UNAUTHENTICATED = 'console-unauthenticated';

/** An answer that is no success, or no answer at all (status 0). */
export class Problem extends Error {
  constructor(status, document) {
    super(document?.detail ?? document?.title ?? `status ${status}`);
    this.status = status;
    this.document = document;
    this.code = document?.code ?? (status === 0 ? 'unreachable' : `status-${status}`);
    this.errors = document?.errors ?? [];
  }
}

/** The address of a path of the API, below whatever prefix the console is served. */
export function address(path, query) {
  const url = new URL(path.replace(/^\//, ''), document.baseURI);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== '') url.searchParams.append(name, String(value));
  }
  return url;
}

function headersOf(extra) {
  const headers = new Headers(extra);
  if (session.token) headers.set('authorization', `Bearer ${session.token}`);
  return headers;
}

async function send(method, path, { query, body, headers, signal } = {}) {
  const all = headersOf(headers);
  if (body !== undefined) all.set('content-type', 'application/json');
  const text = typeof body === 'string' || body === undefined ? body : stringify(body);
  let response;
  try {
    response = await fetch(address(path, query), { method, headers: all, body: text, signal, credentials: 'omit' });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, { detail: 'the server does not answer' });
  }
  if (!response.ok && response.status !== 304) {
    if (response.status === 401) dispatchEvent(new Event(UNAUTHENTICATED));
    throw new Problem(response.status, await documentOf(response));
  }
  return response;
}

async function documentOf(response) {
  try {
    return parse(await response.text());
  } catch {
    return { detail: response.statusText };
  }
}

/** One request; answers `{ status, headers, text, data }`, `data` when the answer is JSON. */
export async function call(method, path, options) {
  const response = await send(method, path, options);
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json');
  return { status: response.status, headers: response.headers, text, data: isJson && text ? parse(text) : null };
}

export const get = async (path, query, signal) => (await call('GET', path, { query, signal })).data;
export const getText = async (path, query, signal) => (await call('GET', path, { query, signal })).text;
export const post = async (path, body, signal) => (await call('POST', path, { body, signal })).data;
export const segment = (id) => encodeURIComponent(id);

const PAUSE_MAX_MS = 10_000;
/** Longest line of a stream; longer ones are no event of this server. */
const LINE_CHARACTERS_MAX = 16 << 20;

/**
 * Follows the log as server-sent events, over fetch so that the token can be sent. Goes on by itself after the last
 * event seen when the connection breaks; `told` hears `open` and `lost`.
 */
export async function follow(query, after, { signal, each, told }) {
  let last = after;
  let pause = 500;
  while (!signal.aborted) {
    try {
      const headers = { accept: 'text/event-stream', 'last-event-id': String(last) };
      const response = await send('GET', '/api/v1/events', { query, headers, signal });
      told('open');
      pause = 500;
      await read(response.body, signal, (id, data) => {
        last = id;
        each(parse(data));
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    }
    if (signal.aborted) return;
    told('lost');
    await sleep(pause, signal);
    pause = Math.min(pause * 2, PAUSE_MAX_MS);
  }
}

async function read(body, signal, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let id = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done || signal.aborted) return;
    rest += value;
    let start = 0;
    for (let end = rest.indexOf('\n', start); end >= 0; end = rest.indexOf('\n', start)) {
      const line = rest.slice(start, end);
      start = end + 1;
      if (line.startsWith('id: ')) id = Number(line.slice(4));
      else if (line.startsWith('data: ')) each(id, line.slice(6));
    }
    rest = rest.slice(start);
    if (rest.length > LINE_CHARACTERS_MAX) throw new Error('a line of the stream has no end');
  }
}

/** Waits; resolves early when the signal ends it. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    }
    signal?.addEventListener('abort', done);
  });
}

/** Calls again and again until the signal ends it; rests while nobody looks at the page. */
export async function poll(milliseconds, signal, work) {
  while (!signal.aborted) {
    if (!document.hidden) await work();
    await sleep(milliseconds, signal);
  }
}

/** The last position of the log. */
export async function head(signal) {
  const { items } = await get('/api/v1/projections', undefined, signal);
  return items.reduce((most, item) => Math.max(most, item.head), 0);
}
