/** splitRows: a data set's rows in two files, each row by a hash of what it says. */
import { ServiceError, type SplitRequest } from '@mlx-training/contract'
import { Pass } from '../pass.ts'
import { plural } from '../words.ts'
import { place } from './place.ts'
import type { Received } from './port.ts'
import type { RowIndex } from './row-index.ts'
import { withWriters } from './row-writer.ts'
import type { Shelf } from './shelf.ts'
import { Turns } from './turns.ts'

/**
 * The engine's rule (its hold_out): rows whose place is below the share are held out, at least one and not all. All rows must
 * be good. ServiceError('invalid_parameters') for fewer than two different ones.
 */
export async function splitRows(
  index: RowIndex,
  { validation_share: share, seed }: SplitRequest,
  shelf: Shelf,
): Promise<{ train: Received; validation: Received }> {
  const places = await placesOf(index, seed)
  const isHeld = rule(places, share)
  return await withWriters(shelf, 2, async (...writers) => {
    const [train, validation] = writers as [(typeof writers)[0], (typeof writers)[0]]
    const turns = new Turns()
    let sample = 0
    for await (const rows of index.all()) {
      for (const row of rows) {
        const side = isHeld(places[sample++] as number) ? validation : train
        side.add(row)
        await turns.after(row.length)
      }
      await train.flush()
      await validation.flush()
    }
    return { train: await train.finish(), validation: await validation.finish() }
  })
}

async function placesOf(index: RowIndex, seed: number | undefined): Promise<Float64Array> {
  const places = new Float64Array(index.count)
  let good = 0
  const pass = new Pass({
    size: 0,
    maxSeen: 0,
    onGood: (row) => {
      places[good++] = place(row, seed)
    },
  })
  const turns = new Turns()
  const line = Buffer.from('\n')
  for await (const rows of index.all())
    for (const row of rows) {
      pass.push(oneLine(row))
      pass.push(line)
      await turns.after(row.length)
    }
  pass.end()
  if (good !== index.count)
    throw new Error(`${index.count - good} of ${plural(index.count, 'row')} of a valid data set are not good`)
  return places
}

function oneLine(row: Buffer): Buffer {
  return row.includes(0x0a) ? Buffer.from(row.toString('latin1').replaceAll('\n', ' '), 'latin1') : row
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
