// Which pages there are: title, place in the address, and the module that draws them.

import { t } from '../base/i18n.js';
import * as aggregate from '../pages/aggregate.js';
import * as aggregates from '../pages/aggregates.js';
import * as branch from '../pages/branch.js';
import * as branches from '../pages/branches.js';
import * as causation from '../pages/causation.js';
import * as commands from '../pages/commands.js';
import * as events from '../pages/events.js';
import * as integrity from '../pages/integrity.js';
import * as metrics from '../pages/metrics.js';
import * as overview from '../pages/overview.js';
import * as projections from '../pages/projections.js';
import * as queries from '../pages/queries.js';
import * as saga from '../pages/saga.js';
import * as sagas from '../pages/sagas.js';
import * as settings from '../pages/settings.js';

/** The pages of the menu, in its groups. */
export const groups = () => [
  [t('Look'), [
    { path: 'overview', title: t('Overview'), module: overview },
    { path: 'events', title: t('Events'), module: events },
    { path: 'aggregates', title: t('Aggregates'), module: aggregates, single: aggregate },
    { path: 'causation', title: t('Causation'), module: causation, single: causation },
    { path: 'queries', title: t('Queries'), module: queries },
  ]],
  [t('Run'), [
    { path: 'commands', title: t('Commands'), module: commands },
    { path: 'projections', title: t('Projections'), module: projections },
    { path: 'sagas', title: t('Sagas'), module: sagas, single: saga },
    { path: 'branches', title: t('Branches'), module: branches, single: branch },
  ]],
  [t('Trust'), [
    { path: 'integrity', title: t('Integrity'), module: integrity },
    { path: 'metrics', title: t('Metrics'), module: metrics },
    { path: 'settings', title: t('Settings'), module: settings },
  ]],
];

export const pages = () => groups().flatMap(([, list]) => list);
