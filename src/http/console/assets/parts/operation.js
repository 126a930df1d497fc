// A long work that is followed to its end.

import { call, get, sleep } from '../base/api.js';
import { h, replace } from '../base/dom.js';
import { t } from '../base/i18n.js';
import { badge, button, progress } from './controls.js';
import { failure } from './states.js';

const LOOK_MS = 300;

/** Follows an operation in a place until it ends; answers how it ended, or null when the page was left. */
export async function followOperation(place, operation, signal) {
  const path = `/api/v1/operations/${operation.operation_id}`;
  const cancel = async () => {
    try {
      await call('DELETE', path, { signal });
    } catch (error) {
      if (!signal.aborted) place.append(failure(error));
    }
  };
  let now = operation;
  for (;;) {
    if (signal.aborted) return null;
    const { done, total } = now.progress;
    const isRunning = now.status === 'running';
    replace(
      place,
      h(
        'div',
        { class: 'operation', 'data-status': now.status, role: 'status' },
        h('div', { class: 'row row-spread' }, h('span', null, t(now.kind.replaceAll('-', ' ')), ' ', badge(now.status)), isRunning && button(t('Cancel'), cancel)),
        progress(isRunning ? done : Math.max(done, now.status === 'succeeded' ? 1 : 0), isRunning ? total : Math.max(total, 1), t(now.kind.replaceAll('-', ' '))),
        now.error && h('p', { class: 'bad' }, now.error),
      ),
    );
    if (!isRunning) return now;
    await sleep(LOOK_MS, signal);
    try {
      now = await get(path, undefined, signal);
    } catch (error) {
      if (signal.aborted) return null;
      replace(place, failure(error));
      return null;
    }
  }
}
