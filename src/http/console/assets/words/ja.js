export const japanese = {};
