// The log: newest events first, filtered, and live while they are recorded.

import { follow, get, head, segment } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { clock, dateTime, fromField, number, toField } from '../base/format.js';
import { t } from '../base/i18n.js';
import { newest } from '../base/log.js';
import { note } from '../base/router.js';
import { aggregateTypes, eventTypes } from '../base/schemas.js';
import { aggregateLink, button, correlationLink, field, heading, input, table, typeMark } from '../parts/controls.js';
import { eventDetail } from '../parts/document.js';
import { suggestions } from '../parts/suggestions.js';
import { empty, failure, loading, show } from '../parts/states.js';

const PAGE = 100;
/** Rows kept while live: older ones leave, so that the page stays small however long it is open. */
const ROWS_MAX = 200;
/** Events that came since the last painting and are still to be shown. */
const WAITING_MAX = ROWS_MAX;
const PAINT_MS = 250;

const FILTERS = ['aggregate', 'aggregate_type', 'event_type', 'correlation_id', 'from_time', 'to_time', 'position'];

class Events {
  constructor({ query, signal }) {
    this.signal = signal;
    this.filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? '']));
    this.reading = new AbortController();
    signal.addEventListener('abort', () => this.reading.abort());
    this.list = h('div');
    this.more = h('div', { class: 'row row-center' });
    this.detail = h('aside', { class: 'panel detail', 'aria-label': t('Event'), hidden: true });
    this.liveButton = h('button', { type: 'button', class: 'button live-button', 'aria-pressed': 'false', on: { click: () => this.toggleLive() } });
    this.pauseButton = h('button', { type: 'button', class: 'button', hidden: true, on: { click: () => this.togglePause() } });
    this.counter = h('p', { class: 'muted small mono', 'aria-live': 'off', 'data-role': 'counter' });
    this.isLive = false;
    this.showButtons();
  }

  get query() {
    const { aggregate_type, event_type, correlation_id, from_time, to_time } = this.filters;
    return { aggregate_type, event_type, correlation_id, from_time, to_time };
  }

  element() {
    return h('div', null, heading(t('Events'), t('Everything that was ever recorded, newest first.'), this.liveButton, this.pauseButton), this.form(), h('div', { class: 'split split-list' }, h('div', { class: 'list-side' }, this.counter, this.list, this.more), this.detail));
  }

  form() {
    const control = (name, attributes) => input({ name, value: this.filters[name], ...attributes });
    const [aggregateType, eventType] = [control('aggregate_type'), control('event_type')];
    const time = (name) => input({ name, type: 'datetime-local', step: '1', value: toField(this.filters[name]) });
    const form = h(
      'form',
      { class: 'panel filters', role: 'search', 'aria-label': t('Filter events') },
      field(t('Aggregate id'), control('aggregate')),
      field(t('Aggregate type'), aggregateType),
      suggestions(aggregateType, aggregateTypes, this.signal),
      field(t('Event type'), eventType),
      suggestions(eventType, eventTypes, this.signal),
      field(t('Correlation id'), control('correlation_id')),
      field(t('From (UTC)'), time('from_time')),
      field(t('To (UTC)'), time('to_time')),
      field(t('Up to position'), control('position', { type: 'number', min: '1' })),
      h('div', { class: 'row filter-buttons' }, h('button', { type: 'submit', class: 'button primary' }, t('Filter')), h('button', { type: 'reset', class: 'button' }, t('Clear'))),
    );
    const take = () => {
      for (const name of FILTERS) {
        const { value } = form.elements.namedItem(name);
        this.filters[name] = name.endsWith('_time') ? fromField(value) : value.trim();
      }
      note(['events'], this.filters);
      this.load();
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      take();
    });
    form.addEventListener('reset', (event) => {
      event.preventDefault();
      for (const name of FILTERS) form.elements.namedItem(name).value = '';
      take();
    });
    return form;
  }

  /** Reads anew from the newest event on. */
  load() {
    this.reading.abort();
    this.reading = new AbortController();
    this.isLive = false;
    this.streamCursor = undefined;
    this.found = [];
    this.table = null;
    this.showButtons();
    const { signal } = this.reading;
    this.counter.textContent = '';
    this.more.replaceChildren();
    return show(this.list, signal, async () => {
      this.head = this.filters.position === '' ? await head(signal) : Number(this.filters.position);
      this.before = this.head;
      const events = await this.older(signal);
      if (events.length === 0) return this.nothing();
      this.table = this.tableOf(t('Events'), events);
      if (this.filters.position !== '') this.select(events[0]);
      return this.table.frame;
    });
  }

  nothing() {
    const isFiltered = FILTERS.some((name) => this.filters[name] !== '');
    if (isFiltered) return empty(t('No event passes these filters'), t('Clear one of them, or press Live to wait for the next.'));
    return empty(t('The log is empty'), t('Send a first command, and its events appear here.'), h('a', { class: 'button primary', href: '#/commands' }, t('Send a command')));
  }

  async older(signal) {
    const id = this.filters.aggregate;
    if (id !== '') {
      const query = { direction: 'backward', limit: PAGE, cursor: this.streamCursor };
      const page = await get(`/api/v1/events/${segment(id)}`, query, signal);
      this.streamCursor = page.next_cursor;
      this.showMore(page.next_cursor !== null);
      return page.events.filter((event) => this.passes(event));
    }
    // More is found than is shown at once: the rest waits for its turn.
    if (this.found.length < PAGE && this.before > 0) {
      const { events, before } = await newest(this.query, this.before, PAGE, signal);
      this.found.push(...events);
      this.before = before;
    }
    const shown = this.found.splice(0, PAGE);
    this.showMore(this.found.length > 0 || this.before > 0);
    return shown;
  }

  /** What the server filters in the log, but not within one stream. */
  passes(event) {
    const { event_type, correlation_id, from_time, to_time, position } = this.filters;
    const time = Date.parse(event.recorded_at);
    return (
      (event_type === '' || event.event_type === event_type) &&
      (correlation_id === '' || event.metadata.correlation_id === correlation_id) &&
      (from_time === '' || time >= Date.parse(from_time)) &&
      (to_time === '' || time <= Date.parse(to_time)) &&
      (position === '' || event.position <= Number(position))
    );
  }

  showMore(hasMore) {
    const more = async () => {
      replace(this.more, loading());
      try {
        const events = await this.older(this.reading.signal);
        if (this.table) this.table.body.append(...events.map((event) => this.row(event)));
        else if (events.length > 0) {
          this.table = this.tableOf(t('Events'), events);
          replace(this.list, this.table.frame);
        }
      } catch (error) {
        if (!this.signal.aborted) replace(this.more, failure(error, more));
      }
    };
    replace(this.more, hasMore && button(t('Older events'), more));
  }

  tableOf(label, events) {
    return table(label, [[t('Position'), 'number'], [t('Time (UTC)')], [t('Type')], [t('Aggregate')], [t('Sequence'), 'number'], [t('Correlation')]], events.map((event) => this.row(event)));
  }

  row(event) {
    const open = h('button', { type: 'button', class: 'link mono', on: { click: () => this.select(event) }, 'aria-label': t('Show the event at position {position}', { position: event.position }) }, String(event.position));
    return h(
      'tr',
      { 'data-position': event.position },
      h('td', { class: 'number' }, open),
      h('td', { class: 'mono nowrap', title: dateTime(event.recorded_at) }, this.isLive ? clock(event.recorded_at) : dateTime(event.recorded_at).slice(5)),
      h('td', null, typeMark(event.event_type)),
      h('td', { class: 'cut' }, aggregateLink(event.aggregate_id, { at: event.sequence })),
      h('td', { class: 'number mono' }, String(event.sequence)),
      h('td', { class: 'cut' }, correlationLink(event.metadata?.correlation_id)),
    );
  }

  select(event) {
    const mark = (position) => {
      for (const row of this.table?.body.children ?? []) row.setAttribute('aria-current', String(row.dataset.position === String(position)));
    };
    const close = () => {
      this.detail.hidden = true;
      mark(null);
    };
    this.detail.hidden = false;
    mark(event.position);
    replace(this.detail, h('div', { class: 'row row-spread' }, h('h2', null, t('Position {position}', { position: number(event.position) })), button(t('Close'), close)), eventDetail(event));
  }

  toggleLive() {
    if (this.isLive) this.load();
    else this.goLive();
  }

  togglePause() {
    this.isPaused = !this.isPaused;
    this.showButtons();
    this.paint();
  }

  showButtons() {
    this.liveButton.setAttribute('aria-pressed', String(this.isLive));
    replace(this.liveButton, h('span', { class: 'pulse', 'aria-hidden': 'true' }), this.isLive ? t('Stop') : t('Live'));
    this.pauseButton.hidden = !this.isLive;
    this.pauseButton.textContent = this.isPaused ? t('Go on') : t('Pause');
  }

  /** Follows the log; what comes faster than it can be read replaces what was not shown yet. */
  async goLive() {
    this.reading.abort();
    this.reading = new AbortController();
    const { signal } = this.reading;
    Object.assign(this, { isLive: true, isPaused: false, waiting: [], received: 0, since: performance.now(), link: 'open' });
    this.showButtons();
    this.more.replaceChildren();
    this.table = this.tableOf(t('Live events'), []);
    replace(this.list, this.table.frame);
    const timer = setInterval(() => this.paint(), PAINT_MS);
    signal.addEventListener('abort', () => clearInterval(timer));
    try {
      const after = await head(signal);
      const id = this.filters.aggregate;
      this.paint();
      await follow(this.query, after, {
        signal,
        told: (link) => (this.link = link),
        each: (event) => {
          if (id !== '' && event.aggregate_id !== id) return;
          this.received += 1;
          this.waiting.push(event);
          if (this.waiting.length > WAITING_MAX) this.waiting.shift();
        },
      });
    } catch (error) {
      if (!signal.aborted) replace(this.list, failure(error, () => this.goLive()));
    }
  }

  paint() {
    if (!this.isLive) return;
    const elapsed = (performance.now() - this.since) / 1000;
    const rate = elapsed > 0 ? this.received / elapsed : 0;
    const state = this.isPaused ? t('paused') : this.link === 'lost' ? t('the connection broke; trying again') : t('listening');
    this.counter.textContent = `${state} · ${t('{count} received', { count: number(this.received) })} · ${t('{rate} a second', { rate: number(rate) })}`;
    if (this.isPaused || this.waiting.length === 0) return;
    const fresh = this.waiting.map((event) => this.row(event)).reverse();
    this.waiting = [];
    const { body } = this.table;
    body.prepend(...fresh);
    while (body.children.length > ROWS_MAX) body.lastElementChild.remove();
  }
}

export async function page(context) {
  const events = new Events(context);
  events.load();
  if (context.query.get('live')) events.goLive();
  return events.element();
}
