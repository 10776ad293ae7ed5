/** What is entered and not started yet, kept in this tab, so that a reload does not lose it. */
import { requestOf, same } from './form.ts'
import { PARAMETERS } from './schema.ts'
import type { Value, Values } from './values.ts'

export interface Draft {
  values: Values
  preset: string | null
}

/** Another address, which brings another data set or run, is another form. */
const key = () => `mlx-training.new-run${window.location.search}`

/** null: nothing was entered at this address. */
export function keptDraft(): Draft | null {
  try {
    const { values, preset } = JSON.parse(sessionStorage.getItem(key()) ?? '{}')
    if (typeof values !== 'object' || values === null) return null
    const known = Object.entries(values).filter(([path, value]) => PARAMETERS.has(path) && isValue(value))
    return { values: Object.fromEntries(known) as Values, preset: typeof preset === 'string' ? preset : null }
  } catch {
    return null
  }
}

/** Only fields of a start come here, and keys are none of them. Kept while it asks for another run than `begun` does. */
export function keepDraft(draft: Draft, begun: Values): void {
  const untouched = same(requestOf(draft.values), requestOf(begun))
  try {
    if (untouched) forgetDraft()
    else sessionStorage.setItem(key(), JSON.stringify(draft))
  } catch {
    // Full, or refused: it is a help, no more.
  }
}

export const forgetDraft = () => sessionStorage.removeItem(key())

/** Whether somebody entered it: a model that is the only one is chosen by itself. */
export function isEntered({ values }: Draft, begun: Values): boolean {
  return !same(requestOf({ ...values, model_name: '' }), requestOf({ ...begun, model_name: '' }))
}

const isValue = (value: unknown): value is Value =>
  typeof value === 'string' ||
  typeof value === 'boolean' ||
  (Array.isArray(value) && value.every((one) => typeof one === 'string'))
