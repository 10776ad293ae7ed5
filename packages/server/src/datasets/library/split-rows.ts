/** splitFile: a data set's rows in two files, each row by a hash of what it says. */
import { ServiceError, type SplitRequest } from '@mlx-training/contract'
import type { ReadOptions } from '../port.ts'
import { Examiner } from './examine.ts'
import { type RowsPlace, withRows } from './open-rows.ts'
import { place } from './place.ts'
import type { Received } from './port.ts'
import type { RowIndex } from './row-index.ts'
import { withWriters } from './row-writer.ts'

export interface SplitTask {
  rows: RowsPlace
  reading: ReadOptions
  request: SplitRequest
  /** For the rows to train on, and for those that are held out. */
  folders: readonly [string, string]
}

/**
 * The engine's rule (its hold_out): rows whose place is below the share are held out, at least one and not all. All rows must
 * be good. ServiceError('invalid_parameters') for fewer than two different ones.
 */
export async function splitFile({
  rows: from,
  reading,
  request,
  folders,
}: SplitTask): Promise<{ train: Received; validation: Received }> {
  return await withRows(from, async (index) => {
    const places = await placesOf(index, reading, request.seed)
    const isHeld = rule(places, request.validation_share)
    return await withWriters(folders, async (...writers) => {
      const [train, validation] = writers as [(typeof writers)[0], (typeof writers)[0]]
      let sample = 0
      for await (const rows of index.all()) {
        for (const row of rows) (isHeld(places[sample++] as number) ? validation : train).add(row)
        await train.flush()
        await validation.flush()
      }
      return { train: await train.finish(), validation: await validation.finish() }
    })
  })
}

async function placesOf(index: RowIndex, reading: ReadOptions, seed: number | undefined): Promise<Float64Array> {
  const places = new Float64Array(index.count)
  const examiner = new Examiner(reading)
  let sample = 0
  for await (const rows of index.all())
    for (const row of rows) {
      const { conversation } = examiner.examine(row)
      if (!conversation) throw new Error(`Sample ${sample} of a valid data set is not good`)
      places[sample++] = place(conversation, seed)
    }
  return places
}

function rule(places: Float64Array, share: number): (place: number) => boolean {
  const lowest = places.reduce((low, each) => Math.min(low, each), 1)
  const highest = places.reduce((high, each) => Math.max(high, each), 0)
  if (places.length === 0 || lowest === highest)
    throw new ServiceError(
      'invalid_parameters',
      `A split needs at least 2 different rows, one for each side; ${
        places.length > 1 ? `these ${places.length} are all the same` : `there are ${places.length}`
      }`,
    )
  // Of few rows the share may take none, or all.
  if (lowest >= share) return (each) => each === lowest
  if (highest < share) return (each) => each < highest
  return (each) => each < share
}
