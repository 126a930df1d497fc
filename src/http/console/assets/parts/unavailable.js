// What this build of the server does not have.

import { t } from '../base/i18n.js';
import { empty } from './states.js';

/** Runs some work; a 404 of the whole resource means that this build does not have it. */
export async function available(work, name) {
  try {
    return await work();
  } catch (error) {
    if (error.status === 404 && error.code === 'not-found') return empty(t('Not in this build: {name}', { name }), t('This server answers 404 there. A newer release has it.'));
    throw error;
  }
}
