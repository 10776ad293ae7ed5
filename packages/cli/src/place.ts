/** Files of this machine, as the server can read them. */
import { existsSync, openAsBlob } from 'node:fs'
import { basename, resolve } from 'node:path'
import pc from './screen/colours.ts'
import { note } from './screen/print.ts'
import { waiting } from './screen/waiting.ts'
import type { Session } from './session.ts'

/** A local server sees the files of this machine, but stands in another folder. */
export const absolute = (path: string) => (existsSync(path) ? resolve(path) : path)

/** What to name to the server: the absolute path of a file on the same machine, on another one the id of its upload. */
export async function placed({ client, local, json }: Session, path: string, upload = false): Promise<string> {
  if (path.startsWith('ds_')) return path
  const file = absolute(path)
  if (!upload && (local || file === path)) return file
  const sending = client.datasets.upload(await openAsBlob(file), { name: basename(file) })
  const { id, name } = await waiting(`sending ${basename(file)}`, sending)
  if (!json) note(pc.dim(`${name} uploaded as ${id}`))
  return id
}
