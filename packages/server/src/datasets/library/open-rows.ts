import type { DatasetRecord } from '../../store/port.ts'
import { RowIndex } from './row-index.ts'
import { Shelf } from './shelf.ts'

/** Where the rows of a data set are. Plain data. */
export interface RowsPlace {
  /** Of the shelf. */
  root: string
  id: string
  /** Whether they are read where they are in the file itself. */
  inPlace: boolean
}

export const placeOf = (root: string, { id, container, compressed }: DatasetRecord): RowsPlace => ({
  root,
  id,
  inPlace: container === 'jsonl' && !compressed,
})

/** Opens the rows for `work`. ServiceError('not_found') when the files are gone. */
export async function withRows<T>({ root, id, inPlace }: RowsPlace, work: (index: RowIndex) => Promise<T>): Promise<T> {
  const shelf = new Shelf(root)
  const index = await shelf.open(id, 'index')
  const rows = await shelf.open(id, inPlace ? 'data' : 'rows').catch(async (error) => {
    await index.close()
    throw error
  })
  const opened = await RowIndex.open(index, rows)
  try {
    return await work(opened)
  } finally {
    await opened.close()
  }
}
