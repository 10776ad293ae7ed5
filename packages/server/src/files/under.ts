import { isAbsolute, relative, sep } from 'node:path'

/** Whether `path` is `folder` or below it. Both absolute; symlinks are not followed. */
export function isUnder(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}
