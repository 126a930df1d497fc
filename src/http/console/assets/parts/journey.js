// The way of a saga, drawn: its steps in a row, and below them the way back of what was undone.

import { h, s } from '../base/dom.js';
import { t } from '../base/i18n.js';

const WIDTH = 168;
const GAP = 44;
const TOP = 14;
const BOX = 64;
const BACK = TOP + BOX + 44;

const isUndone = (step) => step.undo_attempts > 0 || ['compensating', 'compensated', 'failed'].includes(step.status);
const triesOf = (count) => (count === 1 ? t('1 try') : t('{count} tries', { count }));

function box(step, x) {
  const error = step.error ? `: ${step.error.message}` : '';
  return s(
    'g',
    { class: `step step-${step.status}`, transform: `translate(${x} ${TOP})` },
    s('title', null, `${step.name}: ${t(step.status)}${error}`),
    s('rect', { width: WIDTH, height: BOX, rx: 10 }),
    s('text', { x: 14, y: 27, class: 'step-name' }, cut(step.name, 18)),
    s('text', { x: 14, y: 48, class: 'step-note' }, `${t(step.status)}${step.attempts > 0 ? ` · ${triesOf(step.attempts)}` : ''}`),
  );
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Forward to the right, back to the left. */
export function journey(saga) {
  const steps = saga.steps;
  if (steps.length === 0) return h('p', { class: 'muted' }, t('Its steps are not known yet.'));
  const x = (index) => 8 + index * (WIDTH + GAP);
  const undone = steps.map((step, index) => [step, index]).filter(([step]) => isUndone(step));
  const height = undone.length > 0 ? BACK + 34 : TOP + BOX + 10;
  const width = x(steps.length) - GAP + 8;
  const parts = [];
  steps.forEach((step, index) => {
    if (index > 0) parts.push(s('path', { class: `way ${step.status === 'pending' ? 'way-pending' : ''}`, d: `M${x(index) - GAP} ${TOP + BOX / 2}h${GAP - 8}m-5 -5l5 5l-5 5` }));
    parts.push(box(step, x(index)));
  });
  undone.forEach(([step, index]) => {
    const middle = x(index) + WIDTH / 2;
    parts.push(
      s('path', { class: 'way way-back', d: `M${middle} ${TOP + BOX + 4}v${BACK - TOP - BOX - 8}` }),
      s('circle', { class: `undo undo-${step.status}`, cx: middle, cy: BACK, r: 6 }),
      s('text', { class: 'step-note', x: middle + 14, y: BACK + 22, 'text-anchor': 'middle' }, `${t('undo')}: ${t(step.status)} · ${triesOf(step.undo_attempts)}`),
    );
  });
  if (undone.length > 0) {
    const [last, first] = [undone.at(-1)[1], undone[0][1]];
    const [from, to] = [x(last) + WIDTH / 2, x(first) + WIDTH / 2];
    if (from > to) parts.push(s('path', { class: 'way way-back', d: `M${from - 8} ${BACK}H${to + 10}m5 -5l-5 5l5 5` }));
  }
  const told = steps.map((step) => `${step.name}: ${t(step.status)}`).join('; ');
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('Steps') }, s('svg', { class: 'journey', role: 'img', 'aria-label': told, width, height, viewBox: `0 0 ${width} ${height}` }, parts));
}
