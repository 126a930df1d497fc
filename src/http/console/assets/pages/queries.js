// Asking read models: a form from the schema, the answer with the position it stands for, and the same with curl.

import { senderPage } from './commands.js';

export const page = senderPage(['query']);
