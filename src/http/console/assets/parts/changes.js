// What differs between two states, path by path.

import { h } from '../base/dom.js';
import { delta } from '../base/format.js';
import { t } from '../base/i18n.js';
import { stringify } from '../base/json.js';
import { table } from './controls.js';
import { empty } from './states.js';

const ROWS_MAX = 500;
const side = (change, name) => (Object.hasOwn(change, name) && change[name] !== undefined ? h('code', { class: 'breaks' }, stringify(change[name])) : h('span', { class: 'muted' }, t('absent')));

/** Changes as the API lists them: `{ path, from?, to? }`; `sides` names what stands left and right. */
export function changesTable(changes, label, sides = [t('Before'), t('After')]) {
  if (changes.length === 0) return empty(t('No difference'), t('Both have the same state.'));
  const rows = changes.slice(0, ROWS_MAX).map((change) => {
    const moved = delta(change.from, change.to);
    return h('tr', null, h('th', { scope: 'row', class: 'mono' }, change.path || '/'), h('td', null, h('del', null, side(change, 'from'))), h('td', null, side(change, 'to'), moved && h('span', { class: 'delta' }, moved)));
  });
  return table(label, [[t('Path')], ...sides.map((side) => [side])], rows).frame;
}
