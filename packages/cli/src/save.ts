/** The body of an answer, into a file that isn't there yet. */
import { createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Stop } from './exit.ts'

/** `-` is stdout. Nothing is left of what did not come whole. Stop: the file is there, or can't be written. */
export async function save({ body }: Response, file: string): Promise<void> {
  if (!body) throw new Stop(`${file}: the answer has no content`)
  try {
    await pipeline(
      Readable.fromWeb(body as never),
      file === '-' ? process.stdout : createWriteStream(file, { flags: 'wx' }),
    )
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') throw new Stop(`${file} is there already: remove it first, or name another`)
    if (syscall === 'open') throw new Stop(`${file} can't be written (${code}): name another file`)
    if (file !== '-') await rm(file, { force: true })
    throw error
  }
}
