// A state as a tree that marks what differs from the state before.

import { h } from '../base/dom.js';
import { delta, exactNumber, number } from '../base/format.js';
import { t } from '../base/i18n.js';
import { Digits, isEqual, isObject, stringify } from '../base/json.js';

/** Entries of one list or object shown at once; the rest is counted. */
const ENTRIES_MAX = 300;
const ABSENT = Symbol('absent');

const isNested = (value) => (Array.isArray(value) && value.length > 0) || (isObject(value) && Object.keys(value).length > 0);
const namesOf = (value) => (Array.isArray(value) ? value.map((_, index) => String(index)) : isObject(value) ? Object.keys(value) : []);
const memberOf = (value, name) => {
  if (value === null || typeof value !== 'object' || value instanceof Digits) return ABSENT;
  return Object.hasOwn(value, name) ? value[name] : ABSENT;
};

function scalar(value) {
  if (typeof value === 'number' || value instanceof Digits) return h('span', { class: 'value j-number' }, exactNumber(value));
  if (typeof value === 'string') return h('span', { class: 'value' }, value === '' ? h('span', { class: 'muted' }, t('empty text')) : value);
  return h('span', { class: 'value j-word' }, stringify(value));
}

function entry(name, value, before) {
  const isNew = before === ABSENT;
  const isGone = value === ABSENT;
  const isChanged = !isNew && !isGone && !isEqual(before, value);
  const kind = isNew ? 'is-new' : isGone ? 'is-gone' : isChanged ? 'is-changed' : '';
  const shown = isGone ? before : value;
  if (isNested(shown)) {
    const mark = isNew ? note('new') : isGone ? note('gone') : null;
    const inner = isGone ? nested(shown, shown) : nested(shown, isNew ? shown : before);
    return h('li', { class: `entry nested ${isChanged ? '' : kind}`, 'data-name': name }, h('div', { class: 'entry-line' }, h('span', { class: 'key' }, name), h('span', { class: 'muted small' }, size(shown)), mark), inner);
  }
  const change = isChanged ? delta(before, value) : null;
  return h(
    'li',
    { class: `entry ${kind}`, 'data-name': name },
    h(
      'div',
      { class: 'entry-line' },
      h('span', { class: 'key' }, name),
      isGone ? h('del', null, scalar(before)) : scalar(value),
      isChanged && h('span', { class: 'was' }, t('was'), ' ', isNested(before) ? size(before) : h('del', null, scalar(before))),
      change && h('span', { class: 'delta' }, change),
      isNew && note('new'),
      isGone && note('gone'),
      isChanged && h('span', { class: 'hidden' }, t('changed')),
    ),
  );
}

const note = (word) => h('span', { class: `mark mark-${word}` }, t(word));
function size(value) {
  const count = Array.isArray(value) ? value.length : Object.keys(value).length;
  return Array.isArray(value) ? t(count === 1 ? '1 item' : '{count} items', { count }) : t(count === 1 ? '1 member' : '{count} members', { count });
}

function nested(value, before) {
  const names = namesOf(value);
  const gone = namesOf(before).filter((name) => !names.includes(name));
  const all = [...names.map((name) => [name, memberOf(value, name)]), ...gone.map((name) => [name, ABSENT])];
  const shown = all.slice(0, ENTRIES_MAX).map(([name, member]) => entry(name, member, memberOf(before, name)));
  const rest = all.length - shown.length;
  return h('ul', { class: 'tree' }, shown, rest > 0 && h('li', { class: 'muted' }, t('and {count} more', { count: number(rest) })));
}

/** `before` is the state one step earlier; equal to `value` to mark nothing. */
export function stateTree(value, before) {
  if (!isNested(value) && !isNested(before)) return h('ul', { class: 'tree' }, h('li', { class: 'entry' }, h('div', { class: 'entry-line' }, scalar(value))));
  return nested(value, before);
}

/** Paths to numbers in a state, the likely ones first: what a curve can be drawn of. */
export function numberPaths(value, path = [], found = []) {
  for (const name of namesOf(value)) {
    const member = memberOf(value, name);
    if (typeof member === 'number') found.push([...path, name]);
    else if (path.length < 1 && isObject(member)) numberPaths(member, [...path, name], found);
    if (found.length >= 12) break;
  }
  return found;
}

export const at = (value, path) => path.reduce((inner, name) => (inner && typeof inner === 'object' && Object.hasOwn(inner, name) ? inner[name] : undefined), value);
