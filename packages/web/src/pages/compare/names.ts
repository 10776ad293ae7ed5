import { setQuery } from '../../router.ts'

/** Names have letters, digits, dots, dashes and underscores alone, so that commas are free. */
export const setNames = (names: readonly string[]) => setQuery({ runs: names.join(',') })
