import { datasets } from './datasets.ts'
import { generation } from './generation.ts'
import { jobs, kills } from './jobs.ts'
import type { Part } from './part.ts'

/** In the order in which they are run; one that is heavy or rarely wanted goes to ON_REQUEST. */
export const PARTS: readonly Part[] = [jobs, datasets, generation]

/** Only by `--only`. */
export const ON_REQUEST: readonly Part[] = [kills]
