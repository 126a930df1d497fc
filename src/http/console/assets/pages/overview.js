// Where everything stands, on one screen: what is well in a word, what is not with the way there.

import { call, get, getText, poll } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { ago, number, seconds } from '../base/format.js';
import { t } from '../base/i18n.js';
import { newest } from '../base/log.js';
import { parseNote } from '../base/merkle.js';
import { link } from '../base/router.js';
import { sample, SAMPLES_MAX, series } from '../base/sampler.js';
import { aggregateLink, badge, heading, panel, positionLink, typeMark } from '../parts/controls.js';
import { spark } from '../parts/chart.js';
import { empty, failure, loading } from '../parts/states.js';

const LOOK_MS = 2_000;
const EVENTS = 8;
/** Sagas that are counted; of more it is said that there are more. */
const COUNTED_MAX = 100;
const counted = (items) => (items.length < COUNTED_MAX ? number(items.length) : `${COUNTED_MAX}+`);

const tile = (title, href, figure, ...rest) => h('a', { class: 'tile', href }, h('span', { class: 'tile-title' }, title), h('span', { class: 'figure mono' }, figure), rest);

async function health(signal) {
  try {
    return (await call('GET', '/health', { signal })).data;
  } catch (error) {
    // A server that is unwell says so with 503 and the same document.
    if (error.document?.checks) return error.document;
    throw error;
  }
}

async function look(signal) {
  const [state, projections, running, failed, note] = await Promise.all([
    health(signal),
    get('/api/v1/projections', undefined, signal),
    get('/api/v1/sagas', { status: 'running', limit: COUNTED_MAX }, signal).catch(absent),
    get('/api/v1/sagas', { status: 'failed', limit: COUNTED_MAX }, signal).catch(absent),
    getText('/api/v1/integrity/checkpoint', undefined, signal).catch(() => null),
  ]);
  return { state, projections: projections.items, running: running.items, failed: failed.items, sealed: note ? parseNote(note).size : null };
}

function absent(error) {
  if (error.status === 404) return { items: [] };
  throw error;
}

function tiles({ state, projections, running, failed, sealed }, events) {
  const head = projections.reduce((most, item) => Math.max(most, item.head), 0);
  const lag = projections.reduce((most, item) => Math.max(most, item.lag_events), 0);
  const slowest = projections.reduce((most, item) => Math.max(most, item.lag_seconds), 0);
  const rates = series('events');
  const rate = rates.at(-1);
  return [
    tile(t('Health'), '#/overview', badge(state.status), h('span', { class: 'muted small' }, t('{count} checks', { count: Object.keys(state.checks ?? {}).length }))),
    tile(t('Events'), link(['events']), number(head), h('span', { class: 'muted small' }, Number.isFinite(rate) ? t('{rate} a second', { rate: number(rate) }) : t('in the log')), rates.length > 1 && spark(rates, SAMPLES_MAX, t('Events a second'))),
    tile(t('Projections'), link(['projections']), lag === 0 ? t('up to date') : number(lag), h('span', { class: 'muted small' }, lag === 0 ? t('{count} read models', { count: projections.length }) : `${t('events behind')} · ${seconds(slowest)}`)),
    tile(t('Sagas'), link(['sagas'], { status: failed.length > 0 ? 'failed' : '' }), counted(running), h('span', { class: 'muted small' }, t('running')), failed.length > 0 && badge('failed', t('{count} need an operator', { count: counted(failed) }))),
    tile(t('Integrity'), link(['integrity']), sealed === null ? '–' : number(sealed), h('span', { class: 'muted small' }, sealed === null ? t('no checkpoint') : sealed >= head ? t('all events sealed') : t('{count} not sealed yet', { count: number(head - sealed) }))),
    events,
  ];
}

function checksPanel(state) {
  const rows = Object.entries(state.checks ?? {}).flatMap(([name, entries]) => entries.map((entry) => ({ name, ...entry })));
  rows.sort((a, b) => (a.status === 'pass') - (b.status === 'pass') || a.name.localeCompare(b.name));
  const value = (row) => `${typeof row.observedValue === 'number' ? number(row.observedValue) : row.observedValue} ${row.observedUnit ?? ''}`;
  const line = (row) => h('li', { class: 'check' }, h('span', { class: 'mono breaks' }, row.name), h('span', { class: 'muted small' }, row.observedValue !== undefined && value(row)), badge(row.status), row.output && h('span', { class: 'small check-output' }, row.output));
  return h('ul', { class: 'plain-list lines' }, rows.map(line));
}

function newestPanel(events) {
  if (events.length === 0) return empty(t('The log is empty'), t('Send a first command, and its events appear here.'), h('a', { class: 'button primary', href: link(['commands']) }, t('Send a command')));
  return h('ul', { class: 'plain-list lines' }, events.map((event) => h('li', { class: 'row row-spread' }, h('span', { class: 'row' }, positionLink(event.position), typeMark(event.event_type)), h('span', { class: 'row' }, aggregateLink(event.aggregate_id, { at: event.sequence }), h('span', { class: 'muted small nowrap' }, ago(event.recorded_at))))));
}

export async function page({ signal }) {
  const top = h('div', { class: 'tiles' }, loading());
  const checks = h('div', null, loading());
  const events = h('div', null, loading());
  let last = -1;
  sample(signal, () => null, () => null);
  poll(LOOK_MS, signal, async () => {
    try {
      const all = await look(signal);
      if (signal.aborted) return;
      replace(top, tiles(all));
      replace(checks, checksPanel(all.state));
      const head = all.projections.reduce((most, item) => Math.max(most, item.head), 0);
      if (head !== last || last === -1) {
        const found = await newest({}, head, EVENTS, signal);
        if (signal.aborted) return;
        last = head;
        replace(events, newestPanel(found.events.slice(0, EVENTS)));
      }
    } catch (error) {
      if (signal.aborted) return;
      last = -1;
      replace(top, failure(error));
      checks.replaceChildren();
      events.replaceChildren();
    }
  });
  return h('div', null, heading(t('Overview')), top, h('div', { class: 'split' }, panel(t('Newest events'), events), panel(t('Health'), checks)));
}
