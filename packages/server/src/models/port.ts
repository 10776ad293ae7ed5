import type { ModelInfo } from '@mlx-training/contract'
import type { ModelRef } from '../jobs/port.ts'

export type { ModelRef }

export interface Models {
  /** Where a name leads: bundled → $HOME/models → local folder under a model root → hub cache → hub (asked, not downloaded).
   *  ServiceError('not_found') lists what was tried; 'unavailable' when the hub can't be reached and nothing is here. */
  resolve(name: string): Promise<ModelRef>
  /** A complete local folder in MLX form: downloads or imports what is missing, once. */
  ensure(
    ref: ModelRef,
    options: {
      onProgress?: (stage: string, done: number, total: number) => void
      signal?: AbortSignal
    },
  ): Promise<string>
  /** The same folder, of which only what decides how text becomes tokens need be there: no weights are downloaded. */
  ensureText(ref: ModelRef, options: { signal?: AbortSignal }): Promise<string>
  /** Base models that are here now. */
  list(): Promise<ModelInfo[]>
  /** Name of the bundled model; null when it isn't set up. */
  readonly bundled: string | null
}
