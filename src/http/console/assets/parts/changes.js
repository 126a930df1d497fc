// What differs between two states, path by path.

import { h } from '../base/dom.js';
import { delta, exactNumber } from '../base/format.js';
import { t } from '../base/i18n.js';
import { Digits, stringify } from '../base/json.js';
import { table } from './controls.js';
import { empty } from './states.js';

const ROWS_MAX = 500;
/** Longer values may break anywhere; shorter ones never in the middle of a number. */
const UNBROKEN_MAX = 24;

function side(change, name) {
  if (!Object.hasOwn(change, name) || change[name] === undefined) return h('span', { class: 'muted' }, t('absent'));
  const text = typeof change[name] === 'number' || change[name] instanceof Digits ? exactNumber(change[name]) : stringify(change[name]);
  return h('code', { class: text.length > UNBROKEN_MAX ? 'breaks' : 'nowrap' }, text);
}

/** Changes as the API lists them: `{ path, from?, to? }`; `sides` names two that stand side by side, instead of before and after. */
export function changesTable(changes, label, sides) {
  if (changes.length === 0) return empty(t('No difference'), t('Both have the same state.'));
  const rows = changes.slice(0, ROWS_MAX).map((change) => {
    const moved = delta(change.from, change.to);
    return h('tr', null, h('th', { scope: 'row', class: 'mono' }, change.path || '/'), h('td', null, sides ? side(change, 'from') : h('del', null, side(change, 'from'))), h('td', null, side(change, 'to'), ' ', moved && h('span', { class: 'delta' }, moved)));
  });
  const { frame } = table(label, [[t('Path')], ...(sides ?? [t('Before'), t('After')]).map((name) => [name])], rows);
  frame.classList.add('thirds');
  return frame;
}
