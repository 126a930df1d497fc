// One aggregate's past: events in pages and states at sequences, each asked for once and remembered, within bounds.

import { call, get, segment } from './api.js';

const PAGE_EVENTS = 200;
const PAGES_MAX = 60;
/** Pages that are read to know every event of a stream; of longer ones, what is looked at is known. */
const WHOLE_PAGES_MAX = 20;
const STATES_MAX = 600;

/** A map that forgets what was not asked for longest. */
class Remembered extends Map {
  constructor(most) {
    super();
    this.most = most;
  }

  recall(key) {
    const value = this.get(key);
    if (value !== undefined) {
      this.delete(key);
      super.set(key, value);
    }
    return value;
  }

  set(key, value) {
    super.set(key, value);
    if (this.size > this.most) this.delete(this.keys().next().value);
    return this;
  }
}

export class Past {
  constructor(id, signal, branch = '') {
    Object.assign(this, { id, signal, branch });
    this.version = 0;
    this.type = '';
    this.states = new Remembered(STATES_MAX);
    this.pages = new Remembered(PAGES_MAX);
    this.times = new Map();
  }

  path(rest = '') {
    return `/api/v1/aggregates/${segment(this.id)}${rest}`;
  }

  /** Where the stream stands. */
  async open() {
    const state = await get(this.path(), { branch: this.branch }, this.signal);
    this.type = state.aggregate_type;
    this.version = state.version;
    this.keep(state);
    return state;
  }

  keep(answer) {
    this.states.set(answer.version, answer);
    if (answer.recorded_at) this.times.set(answer.version, Date.parse(answer.recorded_at));
  }

  /** The state at a sequence if it is here already. */
  remembered(sequence) {
    return sequence === 0 ? { version: 0, state: null, recorded_at: null } : this.states.recall(sequence);
  }

  async state(sequence, signal = this.signal) {
    const known = this.remembered(sequence);
    if (known) return known;
    const answer = await get(this.path(), { at_sequence: sequence, branch: this.branch }, signal);
    this.keep(answer);
    return answer;
  }

  /** The last sequence at or before an instant, as the server says. */
  async sequenceAt(instant, signal = this.signal) {
    const answer = await get(this.path(), { at_time: instant, branch: this.branch }, signal);
    if (answer.version > 0) this.keep(answer);
    return answer;
  }

  page(number) {
    const known = this.pages.recall(number);
    if (known) return known;
    const from = number * PAGE_EVENTS + 1;
    const query = { from_sequence: from, to_sequence: from + PAGE_EVENTS - 1, limit: PAGE_EVENTS, branch: this.branch };
    const page = get(`/api/v1/events/${segment(this.id)}`, query, this.signal).then(({ events }) => {
      for (const event of events) this.times.set(event.sequence, Date.parse(event.recorded_at));
      // The last page may still grow.
      if (events.length < PAGE_EVENTS) this.pages.delete(number);
      return events;
    });
    page.catch(() => this.pages.delete(number));
    this.pages.set(number, page);
    return page;
  }

  /** One event. */
  async event(sequence) {
    if (sequence < 1) return null;
    const number = Math.floor((sequence - 1) / PAGE_EVENTS);
    const events = await this.page(number);
    return events.find((event) => event.sequence === sequence) ?? null;
  }

  /** All events, page by page, unless they are too many to be kept at once. */
  async *all() {
    const count = Math.ceil(this.version / PAGE_EVENTS);
    if (count > WHOLE_PAGES_MAX) return;
    for (let number = 0; number < count && !this.signal.aborted; number += 1) yield await this.page(number);
  }

  /** Looks whether there is more; true when there is. */
  async grow() {
    const path = `/api/v1/events/${segment(this.id)}`;
    const query = { from_sequence: this.version + 1, limit: PAGE_EVENTS, branch: this.branch };
    const headers = { 'if-none-match': `"${this.version}"` };
    const answer = await call('GET', path, { query, headers, signal: this.signal });
    if (answer.status === 304 || answer.data.version <= this.version) return false;
    this.version = answer.data.version;
    return true;
  }

  difference(from, to, signal = this.signal) {
    return get(this.path('/diff'), { from_sequence: from, to_sequence: to, branch: this.branch }, signal);
  }
}
