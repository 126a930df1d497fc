// Alternative timelines: where they fork, what they changed, and whether that can be merged.

import { call, get, head, post, segment } from '../base/api.js';
import { h, s } from '../base/dom.js';
import { dateTime, number, fromField } from '../base/format.js';
import { t } from '../base/i18n.js';
import { go, link } from '../base/router.js';
import { badge, busy, button, field, heading, input, panel, positionLink, select, table } from '../parts/controls.js';
import { announce, confirm } from '../parts/notice.js';
import { empty, failure, show } from '../parts/states.js';
import { available } from '../parts/unavailable.js';

const WIDTH = 720;
const ROW = 54;

/** Main as a line, and each branch where it leaves it. */
function branchGraph(branches, last) {
  const x = (position) => 40 + (Math.max(0, position) / Math.max(1, last)) * (WIDTH - 260);
  const height = 60 + ROW * branches.length;
  const lines = branches.map((branch, index) => {
    const [from, y] = [x(branch.fork_position), 40 + ROW * (index + 1)];
    return s(
      'a',
      { href: link(['branches', branch.branch_id]), class: `branch branch-${branch.status}` },
      s('path', { d: `M${from} 40C${from} ${y} ${from + 4} ${y} ${from + 44} ${y}H${from + 120}` }),
      s('circle', { cx: from, cy: 40, r: 5 }),
      s('circle', { cx: from + 120, cy: y, r: 6 }),
      s('text', { x: from + 134, y: y - 2 }, branch.name.length > 16 ? `${branch.name.slice(0, 15)}…` : branch.name),
      s('text', { x: from + 134, y: y + 15, class: 'lane-type' }, t('from {position}', { position: number(branch.fork_position) })),
    );
  });
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('Branch graph') }, s('svg', { class: 'branches', width: WIDTH, height, viewBox: `0 0 ${WIDTH} ${height}`, role: 'group', 'aria-label': t('Branch graph') }, s('line', { class: 'main-line', x1: 40, x2: WIDTH - 40, y1: 40, y2: 40 }), s('text', { x: 40, y: 22 }, `main · ${number(last)}`), lines));
}

function createForm(signal, reload) {
  const trouble = h('div');
  const name = input({ required: true });
  const kind = select([['sequence', t('a sequence of an aggregate')], ['position', t('a position')], ['time', t('an instant')]], 'position');
  const aggregate = field(t('Aggregate id'), input({ class: 'mono' }));
  const place = field(t('Sequence or position'), input({ type: 'number', min: '0' }));
  const time = field(t('Instant (UTC)'), input({ type: 'datetime-local', step: '0.001' }));
  const valueOf = (part) => part.querySelector('input').value;
  const arrange = () => {
    aggregate.hidden = kind.value !== 'sequence';
    place.hidden = kind.value === 'time';
    time.hidden = kind.value !== 'time';
  };
  kind.addEventListener('change', arrange);
  arrange();
  const form = h('form', { class: 'row fields' }, field(t('Name'), name), field(t('Forks at'), kind), aggregate, place, time, h('button', { type: 'submit', class: 'button primary' }, t('Fork')));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const point = { sequence: () => ({ aggregate_id: valueOf(aggregate), from_sequence: Number(valueOf(place)) }), position: () => ({ at_position: Number(valueOf(place)) }), time: () => ({ at_time: fromField(valueOf(time)) }) }[kind.value]();
    try {
      const branch = await post('/api/v1/branches', { name: name.value, ...point }, signal);
      if (branch?.branch_id) go(['branches', branch.branch_id]);
      else reload();
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(failure(error));
    }
  });
  return panel(t('New branch'), form, trouble);
}

export async function page({ signal }) {
  const place = h('div');
  const load = () =>
    show(place, signal, () =>
      available(async () => {
        const [{ items }, last] = await Promise.all([get('/api/v1/branches', undefined, signal), head(signal)]);
        if (items.length === 0) return [empty(t('There are no branches'), t('Fork the log below to try something out: nothing of a branch reaches main until you merge it.')), createForm(signal, load)];
        return [panel(t('Timelines'), branchGraph(items, last), list(items, signal, load)), createForm(signal, load)];
      }, t('branches')),
    );
  load();
  return h('div', null, heading(t('Branches'), t('Alternative timelines that start from a position of the log.')), place);
}

function list(items, signal, load) {
  const remove = (branch) => async () => {
    if (!(await confirm(t('Delete the branch {name}?', { name: branch.name }), t('Its events are gone; main stays as it is.'), t('Delete it')))) return;
    try {
      await call('DELETE', `/api/v1/branches/${segment(branch.branch_id)}`, { signal });
      load();
    } catch (error) {
      if (!signal.aborted) announce(error.message, 'bad');
    }
  };
  const row = (branch) => {
    const gone = button(t('Delete'), () => busy(gone, remove(branch)));
    return h('tr', null, h('th', { scope: 'row' }, h('a', { href: link(['branches', branch.branch_id]) }, branch.name)), h('td', null, badge(branch.status)), h('td', { class: 'number' }, positionLink(branch.fork_position)), h('td', { class: 'mono' }, branch.created_at ? dateTime(branch.created_at) : '–'), h('td', null, gone));
  };
  return table(t('Branches'), [[t('Name')], [t('Status')], [t('Forks at'), 'number'], [t('Made')], [t('Action')]], items.map(row)).frame;
}
