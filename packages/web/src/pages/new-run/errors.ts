/** What the server says is wrong, at the fields of the form. */
import type { ApiError } from '@mlx-training/sdk'

/** Characters of an item that are enough to know it by. */
const TOLD = 24

/** By field; '' is for what belongs to none. An item of a list is told at the list, which is one field of the form. */
export function atFields(errors: ApiError['errors'], isField: (path: string) => boolean): Record<string, string> {
  const found: Record<string, string> = {}
  for (const { field, message, given } of errors) {
    const [, list = '', nth] = /^(.+)\.(\d+)$/.exec(field) ?? []
    if (isField(field)) found[field] ??= message
    else if (!isField(list)) found[''] ??= message
    else found[list] = [found[list], `${itemOf(Number(nth), given)} ${message}`].filter(Boolean).join('; ')
  }
  return found
}

function itemOf(nth: number, given: unknown): string {
  if (typeof given !== 'string' || given === '') return `Line ${nth + 1}`
  return `“${given.length > TOLD ? `${given.slice(0, TOLD)}…` : given}”`
}
