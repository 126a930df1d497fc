// One branch: what it changed against main, and the merge, tried first.

import { call, get, segment } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { dateTime, eventCount, number } from '../base/format.js';
import { t } from '../base/i18n.js';
import { link } from '../base/router.js';
import { aggregateLink, badge, busy, button, facts, idLine, panel, positionLink, table } from '../parts/controls.js';
import { changesTable } from '../parts/changes.js';
import { announce, confirm } from '../parts/notice.js';
import { empty, failure, show } from '../parts/states.js';

const path = (id, rest = '') => `/api/v1/branches/${segment(id)}${rest}`;

function mergeReport(report, wasTried) {
  const rows = report.commands.map((command) => h('tr', null, h('td', null, command.command_type), h('td', { class: 'cut' }, aggregateLink(command.aggregate_id)), h('td', null, badge(command.outcome)), h('td', null, reasonOf(command.rejection))));
  const isGood = report.merged || (wasTried && report.commands.every((command) => !command.rejection));
  return h(
    'div',
    { class: `verdict ${isGood ? 'verdict-good' : 'verdict-bad'}`, role: 'status', 'data-role': 'merge' },
    h('strong', null, report.merged ? t('Merged') : isGood ? t('This can be merged') : t('Main refuses some of it: nothing was merged')),
    rows.length > 0 && table(t('Commands'), [[t('Command')], [t('Aggregate')], [t('Outcome')], [t('Why')]], rows).frame,
  );
}

const reasonOf = (rejection) => (rejection ? `${rejection.message} (${rejection.code})` : '');

function mergePanel(id, signal, done) {
  const place = h('div');
  const run = async (dryRun) => {
    if (!dryRun && !(await confirm(t('Merge this branch?'), t('Its commands run again on main: all of them, or none.'), t('Merge')))) return;
    try {
      const { data } = await call('POST', path(id, '/merge'), { body: { dry_run: dryRun }, signal });
      if (data.merged && !dryRun) {
        announce(t('Merged'), 'good');
        done();
      } else replace(place, mergeReport(data, dryRun));
    } catch (error) {
      if (signal.aborted) return;
      const { document } = error;
      replace(place, Array.isArray(document?.commands) ? mergeReport({ merged: false, commands: document.commands }, dryRun) : failure(error));
    }
  };
  const attempt = button(t('Try the merge'), () => busy(attempt, () => run(true)));
  const merge = button(t('Merge'), () => busy(merge, () => run(false)), 'primary');
  return panel(t('Merge'), h('p', { class: 'muted' }, t('Runs the commands of the branch again on main, all or none.')), h('div', { class: 'row apart' }, attempt, merge), place);
}

function comparison(items, id) {
  if (items.length === 0) return empty(t('Nothing differs'), t('Send a command to the branch to change something here only.'));
  const side = (name, told) => [name, `${t('version {version}', { version: number(told.version) })} · ${told.next_sequence ? t('more than {count} events', { count: told.events.length }) : eventCount(told.events.length)}`];
  return items.map((item) => h('section', { class: 'compared-aggregate' }, h('h3', null, aggregateLink(item.aggregate_id, { branch: id })), facts(side(t('Main since the fork'), item.main), side(t('Branch since the fork'), item.branch)), changesTable(item.changes, item.aggregate_id, ['main', t('Branch')])));
}

export async function page({ segments, signal }) {
  const id = segments[1];
  const place = h('div');
  const title = h('h1', { tabindex: '-1', class: 'id' }, t('Branch'));
  const load = () => show(place, signal, async () => {
    const [branch, difference] = await Promise.all([get(path(id), undefined, signal), get(path(id, '/diff'), undefined, signal)]);
    replace(title, branch.name);
    const isOpen = branch.status === 'open';
    const stands = facts([t('Status'), badge(branch.status)], [t('Forks at'), positionLink(branch.fork_position)], [t('Made'), h('span', { class: 'mono' }, `${dateTime(branch.created_at).slice(0, 19)} UTC`)]);
    const ways = h('div', { class: 'row apart' }, isOpen && h('a', { class: 'button', href: link(['commands'], { branch: id }) }, t('Send a command to the branch')), h('a', { class: 'button', href: link(['queries'], { branch: id }) }, t('Ask the branch')));
    return [panel(null, stands, ways), panel(t('Compared with main'), comparison(difference.items, id)), isOpen && mergePanel(id, signal, load)];
  });
  load();
  return h('div', null, h('header', { class: 'page-head' }, h('div', null, h('p', { class: 'eyebrow' }, h('a', { href: link(['branches']) }, t('Branches'))), title, idLine(id))), place);
}
