/** How charts are looked at: the same for all of a page, so that they can be read together. */
import { signal } from '@preact/signals'

export type Axis = 'step' | 'time'

export const smoothing = signal(0.6)
export const logarithmic = signal(false)
export const axis = signal<Axis>('step')
/** What part of the x axis is shown; null: all. */
export const zoom = signal<[from: number, to: number] | null>(null)
