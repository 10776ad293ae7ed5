import { ServiceError } from '@mlx-training/contract'

/** What comes after the id `after`, `limit` at most, and whether there is more. ServiceError('invalid_parameters') when
 *  nothing has that id. `keep`: which of them are listed; `after` may be one that is not. */
export function pageOf<T>(
  all: readonly T[],
  idOf: (item: T) => string,
  { after, limit }: { after?: string | undefined; limit: number },
  keep: (item: T) => boolean = () => true,
): { data: T[]; has_more: boolean } {
  const at = after === undefined ? -1 : all.findIndex((item) => idOf(item) === after)
  if (after !== undefined && at < 0) throw unknownAfter(after)
  const rest = all.slice(at + 1).filter(keep)
  return { data: rest.slice(0, limit), has_more: rest.length > limit }
}

export function unknownAfter(after: string): ServiceError {
  const message = `${JSON.stringify(after.slice(0, 100))} is not in this list (any more): list from the start`
  return new ServiceError('invalid_parameters', `after: ${message}`, { errors: [{ field: 'after', message }] })
}
