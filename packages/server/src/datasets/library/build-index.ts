/** buildIndex: where each row of a data set begins, so that any of them is found without reading those before it. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerName } from '@mlx-training/contract'
import type { ExpansionLimits } from '../containers/gzip.ts'
import { Source } from '../containers/source.ts'
import { openOffThread } from '../containers/thread.ts'
import { FileFault } from '../split/fault.ts'
import { isBlank } from '../split/row.ts'
import { RowSplitter } from '../split/rows.ts'
import { AppendFile } from './append-file.ts'
import { entryBytes } from './row-index.ts'
import { FILES } from './shelf.ts'

const NEWLINE = 0x0a
const OPEN_BRACE = 0x7b
const BYTE_ORDER_MARK = Buffer.from('\ufeff')

export interface Indexed {
  rows: number
  container: ContainerName
  compressed: boolean
}

interface Found {
  rows: number
  container: 'json' | 'jsonl'
}

/**
 * Writes `<folder>/index` and, for all but plain JSON Lines, `<folder>/rows`: every row's bytes, one after the other. Goes as
 * far as the file can be read; what ends that is for the report. The endings of `name` say what it is packed in.
 */
export async function buildIndex(folder: string, name: string, limits: ExpansionLimits): Promise<Indexed> {
  const handle = await open(join(folder, FILES.data), 'r')
  const index = await AppendFile.create(join(folder, FILES.index))
  try {
    const source = await Source.of(handle.fd, name)
    const { chunks, kind, gzip } = await openOffThread(source, limits)
    const inPlace = kind === 'plain' && !gzip && (await startsWithBrace(source))
    const found = inPlace ? await indexLines(source.chunks(), index) : await copyRows(chunks, folder, index)
    await index.finish()
    return { rows: found.rows, container: kind === 'plain' ? found.container : kind, compressed: gzip }
  } finally {
    await index.close()
    await handle.close()
  }
}

async function startsWithBrace(source: Source): Promise<boolean> {
  for await (const chunk of source.chunks(64 * 1024)) {
    const text = chunk.indexOf(BYTE_ORDER_MARK) === 0 ? chunk.subarray(BYTE_ORDER_MARK.length) : chunk
    const first = text.find((byte) => !isBlank(byte))
    if (first !== undefined) return first === OPEN_BRACE
  }
  return false
}

/** Rows of JSON Lines are found where they are: the lines that are not blank. */
async function indexLines(chunks: AsyncIterable<Buffer>, index: AppendFile): Promise<Found> {
  let rows = 0
  let position = 0
  let line = 1
  let start = 0
  let blank = true
  const end = (at: number) => {
    if (!blank) {
      index.add(entryBytes({ offset: start, length: at - start, line }))
      rows++
    }
    line++
    start = at + 1
    blank = true
  }
  for await (const chunk of chunks) {
    let from = position === 0 && chunk.indexOf(BYTE_ORDER_MARK) === 0 ? BYTE_ORDER_MARK.length : 0
    if (from > 0) start = from
    for (let at = chunk.indexOf(NEWLINE, from); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      blank &&= chunk.subarray(from, at).every(isBlank)
      end(position + at)
      from = at + 1
    }
    blank &&= chunk.subarray(from).every(isBlank)
    position += chunk.length
    await index.flush()
  }
  if (start < position) end(position)
  return { rows, container: 'jsonl' }
}

/** Rows of everything else are copied to where they can be found. One that is too long has no bytes. */
async function copyRows(chunks: AsyncIterable<Buffer>, folder: string, index: AppendFile): Promise<Found> {
  const copy = await AppendFile.create(join(folder, FILES.rows))
  let rows = 0
  const splitter = new RowSplitter()
  const onRow = ({ bytes, line }: { bytes: Buffer | null; line: number }) => {
    index.add(entryBytes({ offset: copy.size, length: bytes?.length ?? 0, line }))
    // The chunk that they lie in may be used again.
    if (bytes) copy.add(Buffer.from(bytes))
    rows++
  }
  try {
    for await (const chunk of chunks) {
      splitter.push(chunk, onRow)
      await copy.flush()
      await index.flush()
    }
    splitter.end(onRow)
  } catch (error) {
    if (!(error instanceof FileFault)) throw error
  } finally {
    await copy.finish().finally(() => copy.close())
  }
  return { rows, container: splitter.container === 'lines' ? 'jsonl' : 'json' }
}
