import { RequestError } from './errors.ts'

/** A name as one segment of a path. RequestError for those that URLs fold away, however they are escaped. */
export function segment(name: string): string {
  if (/^\.{0,2}$/.test(name)) throw new RequestError(`${JSON.stringify(name)} can't be a name`)
  return encodeURIComponent(name)
}
