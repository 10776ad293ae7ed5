/** takeIn: the report on a file that was received, and where each of its rows begins, so that any of them is found at once. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerName } from '@mlx-training/contract'
import type { ExpansionLimits } from '../containers/gzip.ts'
import { openContainer } from '../containers/index.ts'
import { Source } from '../containers/source.ts'
import type { ReadOptions } from '../port.ts'
import type { Report } from '../report.ts'
import { isBlank, type RawRow } from '../split/row.ts'
import { check } from '../threads/check.ts'
import { AppendFile } from './append-file.ts'
import { entryBytes } from './row-index.ts'
import { FILES } from './shelf.ts'

const NEWLINE = 0x0a
const OPEN_BRACE = 0x7b
const BYTE_ORDER_MARK = Buffer.from('\ufeff')

export interface TakeInTask {
  folder: string
  /** Its endings say what the file is packed in. */
  name: string
  reading: ReadOptions
  limits: ExpansionLimits
  threads: number
}

export interface TakenIn {
  rows: number
  container: ContainerName
  compressed: boolean
  report: Report
}

/**
 * Writes `<folder>/index` and, for all but plain JSON Lines, `<folder>/rows`: every row's bytes, one after the other, as the
 * report's pass sees them. Goes as far as the file can be read; what ends that is in the report.
 */
export async function takeIn({ folder, name, reading, limits, threads }: TakeInTask): Promise<TakenIn> {
  const handle = await open(join(folder, FILES.data), 'r')
  const index = await AppendFile.create(join(folder, FILES.index))
  let copy: AppendFile | null = null
  try {
    const source = await Source.of(handle.fd, name)
    const { kind, gzip } = await openContainer(source, limits)
    const { format: asked, columns, tags } = reading
    const task = { file: { fd: handle.fd, name }, asked, columns, tags, limits, threads }
    if (kind === 'plain' && !gzip && (await startsWithBrace(source))) {
      const rows = await indexLines(source.chunks(), index)
      await index.finish()
      return { rows, container: 'jsonl', compressed: false, report: (await check(task)).report }
    }
    copy = await AppendFile.create(join(folder, FILES.rows))
    const copied = new Copy(copy, index)
    const { report, container } = await check(task, copied)
    await copy.finish()
    await index.finish()
    const plain = container === 'lines' ? 'jsonl' : 'json'
    return { rows: copied.rows, container: kind === 'plain' ? plain : kind, compressed: gzip, report }
  } finally {
    await copy?.close()
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

/** Rows of JSON Lines are found where they are: the lines that are not blank. Returns how many. */
async function indexLines(chunks: AsyncIterable<Buffer>, index: AppendFile): Promise<number> {
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
  return rows
}

/** Rows of everything else are copied to where they can be found. One that is too long has no bytes. */
class Copy {
  readonly #copy: AppendFile
  readonly #index: AppendFile
  rows = 0

  constructor(copy: AppendFile, index: AppendFile) {
    this.#copy = copy
    this.#index = index
  }

  add({ bytes, line }: RawRow): void {
    this.#index.add(entryBytes({ offset: this.#copy.size, length: bytes?.length ?? 0, line }))
    // The chunk that they lie in may be used again.
    if (bytes) this.#copy.add(Buffer.from(bytes))
    this.rows++
  }

  async flush(): Promise<void> {
    await this.#copy.flush()
    await this.#index.flush()
  }
}
