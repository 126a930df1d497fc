// One branch: what it changed against main, and the merge, tried first.

import { call, get, segment } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { number } from '../base/format.js';
import { t } from '../base/i18n.js';
import { link } from '../base/router.js';
import { aggregateLink, badge, busy, button, facts, panel, positionLink, table } from '../parts/controls.js';
import { changesTable } from '../parts/changes.js';
import { confirm } from '../parts/notice.js';
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

const reasonOf = (rejection) => (rejection === null || rejection === undefined ? '' : typeof rejection === 'string' ? rejection : (rejection.message ?? rejection.code ?? rejection.rejection ?? ''));

function mergePanel(id, signal) {
  const place = h('div');
  const run = async (dryRun) => {
    if (!dryRun && !(await confirm(t('Merge this branch?'), t('Its commands run again on main: all of them, or none.'), t('Merge')))) return;
    try {
      const { data } = await call('POST', path(id, '/merge'), { body: { dry_run: dryRun }, signal });
      replace(place, mergeReport(data, dryRun));
    } catch (error) {
      if (signal.aborted) return;
      const { document } = error;
      replace(place, Array.isArray(document?.commands) ? mergeReport({ merged: false, commands: document.commands }, dryRun) : failure(error));
    }
  };
  const attempt = button(t('Try the merge'), () => busy(attempt, () => run(true)));
  const merge = button(t('Merge'), () => busy(merge, () => run(false)), 'primary');
  return panel(t('Merge'), h('p', { class: 'muted' }, t('Runs the commands of the branch again on main, all or none.')), h('div', { class: 'row' }, attempt, merge), place);
}

function comparison(items) {
  if (items.length === 0) return empty(t('Nothing differs'), t('Send a command to the branch to change something here only.'));
  const side = (name, told) => [name, `${t('version {version}', { version: number(told?.version ?? 0) })} · ${t('{count} events', { count: number(Array.isArray(told?.events) ? told.events.length : (told?.events ?? 0)) })}`];
  return items.map((item) => h('section', { class: 'compared-aggregate' }, h('h3', null, aggregateLink(item.aggregate_id)), facts(side(t('Main since the fork'), item.main), side(t('Branch'), item.branch)), changesTable(item.changes, item.aggregate_id, ['main', t('Branch')])));
}

export async function page({ segments, signal }) {
  const id = segments[1];
  const place = h('div');
  show(place, signal, async () => {
    const [branch, difference] = await Promise.all([get(path(id), undefined, signal), get(path(id, '/diff'), undefined, signal)]);
    const items = Array.isArray(difference) ? difference : (difference.items ?? difference.aggregates ?? []);
    return [panel(branch.name, facts([t('Status'), badge(branch.status)], [t('Forks at'), positionLink(branch.fork_position)], [t('Id'), h('span', { class: 'mono breaks' }, branch.branch_id)]), branch.status === 'open' && h('div', { class: 'row apart' }, h('a', { class: 'button', href: link(['commands'], { branch: id }) }, t('Send a command to the branch')))), panel(t('Compared with main'), comparison(items)), mergePanel(id, signal)];
  });
  return h('div', null, h('header', { class: 'page-head' }, h('div', null, h('p', { class: 'eyebrow' }, h('a', { href: link(['branches']) }, t('Branches'))), h('h1', { tabindex: '-1', class: 'mono id' }, id))), place);
}
