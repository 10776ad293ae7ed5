/** The colours of the style sheet as a canvas takes them. */
import { computed } from '@preact/signals'
import { dark } from '../theme.ts'

export const CURVES = 10

export interface Palette {
  text: string
  grid: string
  ground: string
  curves: string[]
}

export const palette = computed<Palette>(() => {
  void dark.value // another theme, other colours
  const probe = document.createElement('span')
  document.body.append(probe)
  const read = (name: string) => {
    probe.style.color = `var(--${name})`
    return getComputedStyle(probe).color
  }
  const colours = {
    text: read('text-muted'),
    grid: read('line'),
    ground: read('surface'),
    curves: Array.from({ length: CURVES }, (_, i) => read(`curve-${i + 1}`)),
  }
  probe.remove()
  return colours
})

export const curveColour = (index: number) => palette.value.curves[index % CURVES] as string

/** `rgb(1, 2, 3)` with an alpha. */
export const faint = (colour: string, alpha: number) => colour.replace('rgb(', 'rgba(').replace(')', `, ${alpha})`)
