// The time slider: every event of a stream on one line, by sequence or by instant, with the curve of a number above.

import { h, replace } from '../base/dom.js';
import { dateTime, hue, number } from '../base/format.js';
import { t } from '../base/i18n.js';
import { onChange } from '../base/session.js';
import { typeMark } from './controls.js';

const HEIGHT = 132;
const BASE = 104;
const TOP = 12;
const SIDE = 14;
const LEGEND_MAX = 12;
/** Steps of the slider in time. */
const TIME_STEPS = 10_000;

/**
 * `change(sequence)` hears every move, `instant(milliseconds)` asks which sequence an instant stands for when the
 * events around it are not known.
 */
export class Slider {
  constructor({ past, signal, change, instant }) {
    Object.assign(this, { past, signal, change, instant });
    this.at = 0;
    this.mode = 'sequence';
    this.types = new Map();
    this.curve = [];
    this.range = h('input', { type: 'range', min: '0', max: '1', step: '1', class: 'slider', 'aria-label': t('Sequence'), on: { input: () => this.moved() } });
    this.canvas = h('canvas', { class: 'timeline-canvas', 'aria-hidden': 'true' });
    this.ends = h('div', { class: 'timeline-ends mono small muted' });
    this.probe = h('span', { hidden: true });
    this.legend = h('ul', { class: 'legend timeline-legend', 'aria-label': t('Event types') });
    this.element = h('div', { class: 'timeline' }, this.probe, this.canvas, this.range, this.ends, this.legend);
    this.canvas.addEventListener('pointerdown', (event) => this.point(event), { signal });
    this.canvas.addEventListener('pointermove', (event) => event.buttons === 1 && this.point(event), { signal });
    const observer = new ResizeObserver(() => this.draw());
    observer.observe(this.canvas);
    signal.addEventListener('abort', () => observer.disconnect());
    onChange(() => this.draw(), signal);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw(), { signal });
  }

  get span() {
    const { times, version } = this.past;
    return [times.get(1) ?? 0, times.get(version) ?? times.get(1) ?? 0];
  }

  setMode(mode) {
    this.mode = mode;
    this.range.setAttribute('aria-label', mode === 'time' ? t('Instant') : t('Sequence'));
    this.show(this.at);
  }

  /** Stands at a sequence. */
  show(sequence) {
    this.at = sequence;
    const { version, times } = this.past;
    this.range.max = String(this.mode === 'time' ? TIME_STEPS : version);
    if (this.mode === 'time') {
      const share = this.share(sequence);
      if (this.sequenceOf(Number(this.range.value) / TIME_STEPS) !== sequence) this.range.value = String(Math.ceil(share * TIME_STEPS));
    } else this.range.value = String(sequence);
    const time = times.get(sequence);
    const told = sequence === 0 ? t('before the first event') : t('event {sequence} of {version}', { sequence: number(sequence), version: number(version) });
    this.range.setAttribute('aria-valuetext', time ? `${told}, ${dateTime(new Date(time).toISOString())} UTC` : told);
    const [first, last] = this.span;
    const text = (instant) => (instant ? dateTime(new Date(instant).toISOString()).slice(0, 19) : '');
    this.ends.replaceChildren(h('span', null, text(first)), h('span', null, text(last)));
    this.draw();
  }

  /** Where a sequence stands, 0 to 1. */
  share(sequence) {
    const { version } = this.past;
    if (this.mode === 'sequence') return version > 0 ? sequence / version : 0;
    const [first, last] = this.span;
    if (sequence <= 0 || last <= first) return sequence <= 0 ? 0 : 1;
    const time = this.past.times.get(sequence) ?? this.guess(sequence);
    return 0.02 + 0.98 * ((time - first) / (last - first));
  }

  /** An instant for a sequence between two that are known. */
  guess(sequence) {
    const { times, version } = this.past;
    let [below, above] = [1, version];
    for (const known of times.keys()) {
      if (known <= sequence && known > below) below = known;
      if (known >= sequence && known < above) above = known;
    }
    const [from, to] = [times.get(below) ?? 0, times.get(above) ?? 0];
    return above > below ? from + ((to - from) * (sequence - below)) / (above - below) : from;
  }

  /** The last sequence at or before a place on the line of instants. */
  sequenceOf(share) {
    if (this.mode === 'sequence') return Math.round(share * this.past.version);
    if (share < 0.02) return 0;
    const time = this.timeOf(share);
    let [low, high] = [1, this.past.version];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.past.times.get(middle) ?? this.guess(middle)) <= time) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  timeOf(share) {
    const [first, last] = this.span;
    return first + Math.max(0, (share - 0.02) / 0.98) * (last - first);
  }

  moved() {
    const value = Number(this.range.value);
    if (this.mode === 'sequence') this.change(value);
    else this.moveTo(value / TIME_STEPS);
  }

  moveTo(share) {
    const sequence = this.sequenceOf(share);
    const { times } = this.past;
    const isKnown = this.mode === 'sequence' || sequence === 0 || (times.has(sequence) && (sequence === this.past.version || times.has(sequence + 1)));
    if (isKnown) this.change(sequence);
    else this.instant(this.timeOf(share));
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left - SIDE) / (box.width - 2 * SIDE)));
    if (this.mode === 'time') this.range.value = String(Math.round(share * TIME_STEPS));
    this.moveTo(share);
  }

  /** Tells more events. */
  know(events) {
    for (const event of events) this.types.set(event.sequence, event.event_type);
    const inOrder = [...this.types.entries()].sort(([a], [b]) => a - b).map(([, name]) => name);
    const names = [...new Set(inOrder)];
    if (names.join('\n') !== this.names) {
      this.names = names.join('\n');
      replace(this.legend, names.slice(0, LEGEND_MAX).map((name) => h('li', null, typeMark(name))));
    }
    this.draw();
  }

  /** The curve of a number: `[sequence, value]`, in order. */
  setCurve(points) {
    this.curve = points;
    this.draw();
  }

  draw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      if (!this.signal.aborted) this.paint();
    });
  }

  paint() {
    const { clientWidth: width } = this.canvas;
    if (width === 0) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = HEIGHT * ratio;
    const pen = this.canvas.getContext('2d');
    pen.scale(ratio, ratio);
    const colour = (name) => this.resolved(name);
    const x = (sequence) => SIDE + this.share(sequence) * (width - 2 * SIDE);
    this.paintCurve(pen, x, colour);
    this.paintEvents(pen, x, colour, width);
    const here = x(this.at);
    pen.strokeStyle = colour('--accent');
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(here, TOP - 4);
    pen.lineTo(here, HEIGHT - 4);
    pen.stroke();
  }

  /** A colour of the theme as the canvas takes it: only a property that is used resolves to one. */
  resolved(name) {
    this.probe.style.color = `var(${name})`;
    return getComputedStyle(this.probe).color;
  }

  paintCurve(pen, x, colour) {
    const points = this.curve.filter(([, value]) => Number.isFinite(value));
    if (points.length < 2) return;
    const values = points.map(([, value]) => value);
    const [least, most] = [Math.min(0, ...values), Math.max(...values, 0)];
    const y = (value) => BASE - 10 - ((value - least) / (most - least || 1)) * (BASE - 10 - TOP);
    const outline = (upTo) => {
      pen.beginPath();
      let last = y(points[0][1]);
      pen.moveTo(x(points[0][0]), last);
      for (const [sequence, value] of points.slice(1)) {
        const right = Math.min(x(sequence), upTo);
        pen.lineTo(right, last);
        if (x(sequence) > upTo) return right;
        last = y(value);
        pen.lineTo(right, last);
      }
      const end = Math.min(x(this.past.version), upTo);
      pen.lineTo(end, last);
      return end;
    };
    const here = x(this.at);
    const end = outline(here);
    pen.lineTo(end, BASE - 8);
    pen.lineTo(x(points[0][0]), BASE - 8);
    pen.fillStyle = colour('--accent-wash');
    pen.fill();
    pen.lineWidth = 1.5;
    pen.strokeStyle = colour('--line-strong');
    outline(Infinity);
    pen.stroke();
    pen.lineWidth = 2;
    pen.strokeStyle = colour('--accent');
    outline(here);
    pen.stroke();
  }

  paintEvents(pen, x, colour, width) {
    pen.fillStyle = colour('--line');
    pen.fillRect(SIDE, BASE + 7, width - 2 * SIDE, 2);
    const { version } = this.past;
    const hues = new Map();
    const step = Math.max(1, Math.floor(version / (width * 2)));
    const isDense = version > width / 7;
    for (let sequence = 1; sequence <= version; sequence += step) {
      const type = this.types.get(sequence);
      if (type && !hues.has(type)) hues.set(type, colour(`--hue-${hue(type)}`));
      pen.fillStyle = type ? hues.get(type) : colour('--line-strong');
      pen.globalAlpha = sequence <= this.at ? 1 : 0.4;
      const middle = x(sequence);
      if (isDense) pen.fillRect(middle - 0.5, BASE + 1, 1, 14);
      else {
        pen.beginPath();
        pen.arc(middle, BASE + 8, sequence === this.at ? 6 : 4, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
  }
}
