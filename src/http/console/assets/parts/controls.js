// Small things that pages are made of: badges, labelled fields, buttons, tables, copying.

import { freshId, h, icon } from '../base/dom.js';
import { hue, shortId } from '../base/format.js';
import { t } from '../base/i18n.js';
import { link } from '../base/router.js';
import { announce } from './notice.js';

const TONES = {
  live: 'good', pass: 'good', completed: 'good', succeeded: 'good', accepted: 'good', fired: 'info',
  running: 'info', rebuilding: 'info', catching_up: 'info', set: 'info', open: 'info',
  paused: 'warn', warn: 'warn', compensating: 'warn', compensated: 'warn', rolled_back: 'warn', outdated: 'warn', refused: 'warn',
  failed: 'bad', fail: 'bad', stopped: 'bad', unowned: 'bad',
};

/** A status as a word with a colour; the word alone tells it too. */
export const badge = (status, text) => h('span', { class: `badge badge-${TONES[status] ?? 'plain'}` }, text ?? t(String(status).replaceAll('_', ' ')));

/** A type's name with its colour. */
export const typeMark = (name) => h('span', { class: 'type' }, h('span', { class: `dot hue-${hue(name)}`, 'aria-hidden': 'true' }), name);

/** A labelled control. */
export function field(label, control, hint) {
  const id = control.id || freshId();
  control.id = id;
  if (hint) control.setAttribute('aria-describedby', `${id}-hint`);
  return h('div', { class: 'field' }, h('label', { for: id }, label), control, hint && h('p', { class: 'muted small', id: `${id}-hint` }, hint));
}

export const input = (attributes) => h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', ...attributes });

export function select(options, value, attributes) {
  const control = h('select', attributes, options.map(([name, text]) => h('option', { value: name }, text)));
  control.value = value;
  return control;
}

export const button = (text, click, kind = '') => h('button', { type: 'button', class: `button ${kind}`, on: { click } }, text);

export const iconButton = (name, label, click, attributes) =>
  h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, on: { click }, ...attributes }, icon(name));

/** Runs something while its button waits. */
export async function busy(control, work) {
  control.disabled = true;
  control.setAttribute('aria-busy', 'true');
  try {
    return await work();
  } finally {
    control.disabled = false;
    control.removeAttribute('aria-busy');
  }
}

/** A table that scrolls in its own frame. `columns`: [heading, class]. */
export function table(label, columns, rows) {
  const body = h('tbody', null, rows);
  const head = h('thead', null, h('tr', null, columns.map(([text, kind]) => h('th', { scope: 'col', class: kind }, text))));
  const frame = h('div', { class: 'table-frame', tabindex: '0', role: 'region', 'aria-label': label }, h('table', null, head, body));
  return { frame, body };
}

/** Rows of names and values. */
export const facts = (...pairs) =>
  h('dl', { class: 'facts' }, pairs.filter(Boolean).map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value ?? '–'))));

export const aggregateLink = (id, query) => h('a', { class: 'mono', href: link(['aggregates', id], query), title: id }, shortId(id));
export const correlationLink = (id) => (id ? h('a', { class: 'mono', href: link(['causation', id]), title: id }, shortId(id)) : '–');
export const positionLink = (position) => h('a', { class: 'mono', href: link(['events'], { position }) }, String(position));

/** The same, one below the other. */
export const rowFacts = (...pairs) => {
  const list = facts(...pairs);
  list.className = 'facts-rows facts';
  return list;
};

/** The same for long values: each has the whole width. */
export const longFacts = (...pairs) => {
  const list = facts(...pairs);
  list.classList.add('facts-long');
  return list;
};

/** A text with a button that copies it. */
export function copyable(text, label) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce(t('Copied'));
    } catch {
      announce(t('The browser does not allow copying: select the text instead.'));
    }
  };
  return h('span', { class: 'copyable' }, h('code', null, text), iconButton('copy', `${t('Copy')}: ${label}`, copy));
}

/** An id below a title, whole and to be copied. */
export const idLine = (id) => {
  const line = copyable(id, t('Id'));
  line.classList.add('id-line');
  return line;
};

export const panel = (title, ...children) => h('section', { class: 'panel' }, title && h('h2', null, title), children);

/** A page's beginning. */
export const heading = (title, hint, ...actions) =>
  h('header', { class: 'page-head' }, h('div', null, h('h1', { tabindex: '-1' }, title), hint && h('p', { class: 'muted' }, hint)), actions.length > 0 && h('div', { class: 'row' }, actions));

/** A bar that fills. */
export function progress(done, total, label) {
  const share = total > 0 ? Math.min(1, done / total) : 0;
  const percent = Math.floor(share * 100);
  const bar = h('progress', { max: '100', value: percent, 'aria-label': label });
  return h('div', { class: 'progress' }, bar, h('span', { class: 'mono small' }, `${percent} %`));
}
