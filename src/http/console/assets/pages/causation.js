// From a request to its last effect: every event of one correlation id, and what led to what.

import { get } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { clock, dateTime, number, seconds } from '../base/format.js';
import { t } from '../base/i18n.js';
import { causation } from '../base/causation.js';
import { go, link } from '../base/router.js';
import { aggregateLink, button, facts, field, heading, input, panel, positionLink, table, typeMark } from '../parts/controls.js';
import { eventDetail } from '../parts/document.js';
import { causationGraph } from '../parts/graph.js';
import { empty, show } from '../parts/states.js';

const EVENTS_MAX = 400;
const PAGES_MAX = 40;

async function eventsOf(id, signal) {
  const events = [];
  let after = 0;
  for (let pages = 0; pages < PAGES_MAX && events.length < EVENTS_MAX; pages += 1) {
    const page = await get('/api/v1/events', { correlation_id: id, after, limit: 1000 }, signal);
    events.push(...page.events);
    if (page.next_cursor <= after) break;
    after = page.next_cursor;
  }
  return events.slice(0, EVENTS_MAX);
}

export async function page({ segments, signal }) {
  const id = segments[1] ?? '';
  const place = h('div');
  const idField = input({ class: 'mono wide', value: id });
  const form = h('form', { class: 'panel row fields', role: 'search', 'aria-label': t('Find a correlation') }, field(t('Correlation id'), idField), h('button', { type: 'submit', class: 'button primary' }, t('Draw')));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (idField.value.trim() !== '') go(['causation', idField.value.trim()]);
  });
  if (id === '') {
    replace(place, empty(t('Which request?'), t('Each answer of the API names its X-Correlation-Id, each event holds it. Paste one, or open an event.'), h('a', { class: 'button', href: link(['events']) }, t('Events'))));
  } else show(place, signal, async () => drawn(await eventsOf(id, signal), id));
  return h('div', null, heading(t('Causation'), t('From a request to its last effect.')), form, place);
}

function drawn(events, id) {
  if (events.length === 0) return empty(t('No event has this correlation id'), t('A request that was refused leaves no events. Check the id, or look among the newest events.'), h('a', { class: 'button', href: link(['events'], { correlation_id: id }) }, t('Events')));
  const detail = h('section', { class: 'panel', hidden: true, 'aria-label': t('Event') });
  const select = (event) => {
    detail.hidden = false;
    replace(detail, h('div', { class: 'row row-spread' }, h('h2', null, t('Position {position}', { position: event.position })), button(t('Close'), () => (detail.hidden = true))), eventDetail(event));
    detail.scrollIntoView({ block: 'nearest' });
  };
  const [first, last] = [events[0], events.at(-1)];
  const graph = causation(events);
  const rows = events.map((event) => h('tr', null, h('td', { class: 'number' }, positionLink(event.position)), h('td', { class: 'mono nowrap' }, clock(event.recorded_at)), h('td', null, typeMark(event.event_type)), h('td', { class: 'cut' }, aggregateLink(event.aggregate_id, { at: event.sequence })), h('td', null, event.metadata?.actor ?? '–')));
  return h(
    'div',
    null,
    panel(null, facts([t('Events'), number(events.length)], [t('Aggregates'), number(graph.lanes.length)], [t('Began'), h('span', { class: 'mono' }, `${dateTime(first.recorded_at)} UTC`)], [t('Took'), seconds((Date.parse(last.recorded_at) - Date.parse(first.recorded_at)) / 1000)]), causationGraph(graph, select), events.length >= EVENTS_MAX && h('p', { class: 'muted' }, t('Only the first {count} events are drawn.', { count: EVENTS_MAX }))),
    detail,
    panel(t('In order'), table(t('In order'), [[t('Position'), 'number'], [t('Time (UTC)')], [t('Type')], [t('Aggregate')], [t('Actor')]], rows).frame),
  );
}
