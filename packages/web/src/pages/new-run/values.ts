/** What is entered, and what of it makes the method. */

/** Numbers are the texts that were typed: half of one must not be lost. */
export type Value = string | boolean | readonly string[]
/** By dotted paths; what is not there has its default, or is left out. */
export type Values = Readonly<Record<string, Value>>

export const METHODS = ['lora', 'qlora', 'dora', 'full'] as const
export type Method = (typeof METHODS)[number]

export function methodOf(values: Values): Method {
  if (values['lora.use_qlora'] === true) return 'qlora'
  if (values['lora.use_lora'] !== true) return 'full'
  return values['lora.use_dora'] === true ? 'dora' : 'lora'
}

export const withMethod = (values: Values, method: Method): Values => ({
  ...values,
  'lora.use_lora': method === 'lora' || method === 'dora',
  'lora.use_qlora': method === 'qlora',
  'lora.use_dora': method === 'dora',
})
