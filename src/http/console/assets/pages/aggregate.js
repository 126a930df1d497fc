// One aggregate, at any moment of its past: slider, state with what changed, the event beside it, two versions compared.

import { sleep } from '../base/api.js';
import { h, icon, replace } from '../base/dom.js';
import { ago, dateTime, eventCount, fromField, number, shortId, toField } from '../base/format.js';
import { Past } from '../base/history.js';
import { t } from '../base/i18n.js';
import { link, note } from '../base/router.js';
import { badge, button, field, iconButton, input, panel, select, typeMark } from '../parts/controls.js';
import { eventDetail } from '../parts/document.js';
import { announce } from '../parts/notice.js';
import { empty, failure } from '../parts/states.js';
import { Slider } from '../parts/slider.js';
import { at as valueAt, numberPaths, stateTree } from '../parts/tree.js';
import { changesTable } from '../parts/changes.js';

const SAMPLES_MAX = 96;
const SAMPLERS = 4;
const STRIDES = [16, 8, 4, 2, 1];
const DEBOUNCE_MS = 40;
const GROW_MS = 2_500;
const STEP_MS = 900;

class TimeTravel {
  constructor({ id, query, signal }) {
    Object.assign(this, { id, signal });
    this.branch = query.get('branch') ?? '';
    this.past = new Past(id, signal, this.branch);
    this.wanted = { at: query.get('at'), time: query.get('time'), with: query.get('with') };
    this.speed = 1;
    this.isPlaying = false;
    this.asked = new AbortController();
    this.state = h('div', { class: 'state-place', 'aria-live': 'off' });
    this.event = h('div', { class: 'event-place' });
    this.told = h('output', { class: 'moment', 'aria-live': 'polite' });
    this.compared = h('div');
    this.slider = new Slider({ past: this.past, signal, change: (sequence) => this.moveTo(sequence), instant: (time) => this.toInstant(new Date(time).toISOString()) });
    this.atField = input({ type: 'number', min: '0', class: 'short mono', on: { change: () => this.moveTo(Number(this.atField.value)) } });
    this.timeField = input({ type: 'datetime-local', step: '0.001', on: { change: () => this.timeField.value && this.toInstant(fromField(this.timeField.value)) } });
    this.withField = input({ type: 'number', min: '0', class: 'short mono', placeholder: '–', on: { change: () => this.compare() } });
  }

  async open() {
    const { aggregate_type: type, version } = await this.past.open();
    await this.past.event(1).catch(() => null);
    this.paths = numberPaths((await this.past.state(version)).state);
    this.element = h('div', null, this.head(type), this.timeline(), this.body());
    if (this.wanted.with) this.withField.value = this.wanted.with;
    if (this.wanted.time) await this.toInstant(this.wanted.time);
    else this.moveTo(this.wanted.at === null ? version : Number(this.wanted.at));
    this.learn();
    this.grow();
    return this.element;
  }

  head(type) {
    this.facts = h('p', { class: 'muted' });
    return h(
      'header',
      { class: 'page-head' },
      h('div', null, h('p', { class: 'eyebrow' }, h('a', { href: link(['aggregates'], { type }) }, t('Aggregates')), ' / ', typeMark(type), this.branch !== '' && [' · ', t('Branch'), ' ', h('a', { class: 'mono', href: link(['branches', this.branch]) }, shortId(this.branch))]), h('h1', { tabindex: '-1', class: 'mono id' }, this.id), this.facts),
      h(
        'div',
        { class: 'row' },
        this.branch === '' && h('a', { class: 'button', href: link(['events'], { aggregate: this.id }) }, t('Events')),
        this.branch === '' && h('a', { class: 'button', href: link(['integrity'], { stream: this.id }) }, t('Verify')),
        this.branch !== '' && h('a', { class: 'button', href: link(['aggregates', this.id]) }, t('The same on main')),
        type === 'saga' ? h('a', { class: 'button', href: link(['sagas', this.id], { branch: this.branch }) }, t('Saga')) : h('a', { class: 'button primary', href: link(['commands'], { aggregate: this.id, type, branch: this.branch }) }, t('Send a command')),
      ),
    );
  }

  timeline() {
    this.playButton = h('button', { type: 'button', class: 'button play', on: { click: () => this.toggle() } });
    const step = (name, label, target) => iconButton(name, label, () => this.moveTo(target()));
    const { past } = this;
    const mode = h('div', { class: 'segments', role: 'group', 'aria-label': t('Scale') }, this.modeButton('sequence', t('Sequence')), this.modeButton('time', t('Time')));
    const speed = select([['0.5', '½×'], ['1', '1×'], ['3', '3×'], ['10', '10×']], '1', { 'aria-label': t('Speed'), class: 'compact', on: { change: () => (this.speed = Number(speed.value)) } });
    const curve = this.paths.length > 0 && select(this.paths.map((path) => [path.join('/'), path.join(' / ')]), this.paths[0].join('/'), { 'aria-label': t('Curve of'), class: 'compact', on: { change: () => this.drawCurve(curve.value) } });
    this.curveName = this.paths[0]?.join('/');
    return h(
      'section',
      { class: 'panel travel', 'aria-label': t('Time travel') },
      h('div', { class: 'travel-head' }, this.told, h('div', { class: 'row' }, curve, mode)),
      this.slider.element,
      h(
        'div',
        { class: 'travel-foot' },
        h(
          'div',
          { class: 'row transport' },
          step('first', t('Before the first event'), () => 0),
          step('previous', t('One event back'), () => this.at - 1),
          this.playButton,
          step('next', t('One event on'), () => this.at + 1),
          step('last', t('Newest event'), () => past.version),
          speed,
        ),
        h('div', { class: 'row fields' }, field(t('Sequence'), this.atField), field(t('Instant (UTC)'), this.timeField), field(t('Compare with'), this.withField)),
      ),
    );
  }

  modeButton(mode, text) {
    const control = h('button', { type: 'button', 'aria-pressed': String(mode === 'sequence') }, text);
    control.addEventListener('click', () => {
      for (const other of control.parentElement.children) other.setAttribute('aria-pressed', String(other === control));
      this.slider.setMode(mode);
    });
    return control;
  }

  body() {
    this.showPlay();
    return h('div', null, this.compared, h('div', { class: 'split' }, panel(t('State'), this.state), panel(t('Event'), this.event)));
  }

  showPlay() {
    replace(this.playButton, icon(this.isPlaying ? 'pause' : 'play'), this.isPlaying ? t('Pause') : t('Play'));
  }

  /** Goes to a sequence: at once when the state is here, else as soon as the hand rests. */
  moveTo(wanted) {
    const sequence = Math.min(this.past.version, Math.max(0, Math.round(Number.isFinite(wanted) ? wanted : this.past.version)));
    this.at = sequence;
    this.slider.show(sequence);
    this.atField.value = String(sequence);
    this.atField.max = String(this.past.version);
    note(['aggregates', this.id], { at: sequence, with: this.withField.value, branch: this.branch });
    this.asked.abort();
    this.asked = new AbortController();
    const before = sequence > 0 ? this.past.remembered(sequence - 1) : { state: null };
    const now = this.past.remembered(sequence);
    this.tell(now);
    if (now && before) this.showState(now, before);
    else this.fetchState(sequence, this.asked.signal);
    this.showEvent(sequence, this.asked.signal);
    if (this.withField.value !== '') this.compare();
  }

  tell(now) {
    const { version } = this.past;
    const time = now?.recorded_at ?? (this.past.times.has(this.at) ? new Date(this.past.times.get(this.at)).toISOString() : null);
    replace(
      this.told,
      h('strong', null, this.at === 0 ? t('Before the first event') : t('Event {sequence} of {version}', { sequence: number(this.at), version: number(version) })),
      time && h('span', { class: 'muted mono' }, `${dateTime(time)} UTC`),
      this.at === version && version > 0 && badge('live', t('now')),
    );
    if (time && document.activeElement !== this.timeField) this.timeField.value = toField(time);
  }

  async fetchState(sequence, signal) {
    this.state.setAttribute('aria-busy', 'true');
    await sleep(DEBOUNCE_MS, signal);
    if (signal.aborted) return;
    try {
      const [now, before] = await Promise.all([this.past.state(sequence), this.past.state(Math.max(0, sequence - 1))]);
      if (signal.aborted) return;
      this.tell(now);
      this.showState(now, before);
      this.past.state(Math.min(this.past.version, sequence + 1)).catch(() => null);
    } catch (error) {
      if (!signal.aborted && !this.signal.aborted) replace(this.state, failure(error, () => this.moveTo(sequence)));
    }
  }

  showState(now, before) {
    this.state.removeAttribute('aria-busy');
    this.state.dataset.sequence = String(now.version);
    if (now.state === null && (before.state ?? null) === null) {
      replace(this.state, this.at === 0 ? empty(t('Nothing has happened yet'), t('Move the slider to the right.')) : empty(t('A generic stream has no state'), t('Its events are beside.')));
    } else replace(this.state, stateTree(now.state, before.state ?? null));
  }

  async showEvent(sequence, signal) {
    if (sequence === 0) {
      replace(this.event, empty(t('No event yet'), t('The first one is one step to the right.')));
      return;
    }
    try {
      const event = await this.past.event(sequence);
      if (signal.aborted || !event) return;
      this.slider.know([event]);
      replace(this.event, eventDetail(event, { withStream: false, isOnMain: this.branch === '' }));
      this.event.dataset.sequence = String(sequence);
    } catch (error) {
      if (!signal.aborted && !this.signal.aborted) replace(this.event, failure(error));
    }
  }

  async toInstant(instant) {
    this.asked.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    await sleep(DEBOUNCE_MS, signal);
    if (signal.aborted) return;
    try {
      const found = await this.past.sequenceAt(instant);
      if (signal.aborted) return;
      this.moveTo(found.version);
      if (found.settled === false) announce(t('Events of this instant may still come.'));
    } catch (error) {
      if (!this.signal.aborted) announce(error.message, 'bad');
    }
  }

  async compare() {
    const other = this.withField.value === '' ? null : Math.min(this.past.version, Math.max(0, Number(this.withField.value)));
    note(['aggregates', this.id], { at: this.at, with: other ?? '', branch: this.branch });
    if (other === null) {
      this.compared.replaceChildren();
      return;
    }
    const { signal } = this.asked;
    const [from, to] = [Math.min(other, this.at), Math.max(other, this.at)];
    try {
      const { changes } = await this.past.difference(from, to);
      if (signal.aborted) return;
      const close = button(t('Close'), () => {
        this.withField.value = '';
        this.compare();
      });
      const title = t('From sequence {from} to {to}', { from: number(from), to: number(to) });
      replace(this.compared, h('section', { class: 'panel compared' }, h('div', { class: 'row row-spread' }, h('h2', null, title), close), changesTable(changes, title)));
    } catch (error) {
      if (!this.signal.aborted) replace(this.compared, failure(error));
    }
  }

  async toggle() {
    this.isPlaying = !this.isPlaying;
    this.showPlay();
    if (!this.isPlaying) return;
    if (this.at >= this.past.version) this.moveTo(0);
    while (this.isPlaying && !this.signal.aborted && this.at < this.past.version) {
      await sleep(STEP_MS / this.speed, this.signal);
      if (!this.isPlaying || this.signal.aborted) return;
      this.moveTo(this.at + 1);
    }
    this.isPlaying = false;
    this.showPlay();
  }

  /** Learns the types of all events, and a number at many places, in the background. */
  async learn() {
    this.showFacts();
    try {
      for await (const events of this.past.all()) this.slider.know(events);
      this.slider.show(this.at);
      const { version } = this.past;
      const count = Math.min(version, SAMPLES_MAX);
      const evenly = Array.from({ length: count }, (_, index) => 1 + Math.round((index * (version - 1)) / Math.max(1, count - 1)));
      // Coarse first, so that the curve has its shape at once and only gets finer.
      const places = STRIDES.flatMap((stride, round) => evenly.filter((_, index) => index % stride === 0 && (round === 0 || index % STRIDES[round - 1] !== 0)));
      const sampler = async () => {
        for (let place = places.shift(); place !== undefined && !this.signal.aborted; place = places.shift()) {
          await this.past.state(place);
          if (places.length % 8 === 0) this.drawCurve(this.curveName);
        }
      };
      if (this.paths.length > 0) await Promise.all(Array.from({ length: SAMPLERS }, sampler));
      this.drawCurve(this.curveName);
    } catch {
      // The curve is an extra: what it needs is asked for again when the slider moves.
    }
  }

  drawCurve(name) {
    this.curveName = name;
    if (!name) return;
    const points = [...this.past.states.entries()].map(([sequence, { state }]) => [sequence, valueAt(state, name.split('/'))]);
    this.slider.setCurve(points.sort(([a], [b]) => a - b));
  }

  showFacts() {
    const newest = this.past.times.get(this.past.version);
    this.facts.textContent = `${eventCount(this.past.version)}${newest ? ` · ${t('last {ago}', { ago: ago(new Date(newest).toISOString()) })}` : ''}`;
  }

  async grow() {
    while (!this.signal.aborted) {
      await sleep(GROW_MS, this.signal);
      if (this.signal.aborted || document.hidden) continue;
      try {
        const before = this.past.version;
        if (!(await this.past.grow())) continue;
        for (const sequence of [before + 1, this.past.version]) await this.past.event(sequence);
        this.learn();
        this.moveTo(this.at === before && !this.isPlaying ? this.past.version : this.at);
      } catch {
        // The next look tells.
      }
    }
  }
}

export async function page({ segments, query, signal }) {
  return new TimeTravel({ id: segments[1], query, signal }).open();
}
