// Names a field offers while one types, asked for when it is first used.

import { freshId, h, replace } from '../base/dom.js';
import { openapi } from '../base/schemas.js';

/** A list of names for a control, which `namesOf` finds in the document of the API; others may be typed as well. */
export function suggestions(control, namesOf, signal) {
  const list = h('datalist', { id: freshId() });
  control.setAttribute('list', list.id);
  const load = async () => {
    try {
      const document = await openapi(signal);
      if (document) replace(list, namesOf(document).map((name) => h('option', { value: name })));
    } catch {
      // Names are an extra.
    }
  };
  control.addEventListener('focus', load, { once: true, signal });
  return list;
}
