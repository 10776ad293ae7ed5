/** Light or dark: as the system has it, or as chosen here, which this browser remembers. */
import { computed, effect, signal } from '@preact/signals'

export type Theme = 'system' | 'light' | 'dark'
const STORED = 'mlx-training.theme'
const system = window.matchMedia('(prefers-color-scheme: dark)')

export const theme = signal<Theme>(stored())
const systemDark = signal(system.matches)
system.addEventListener('change', () => {
  systemDark.value = system.matches
})

export const dark = computed(() => (theme.value === 'system' ? systemDark.value : theme.value === 'dark'))

function stored(): Theme {
  const value = localStorage.getItem(STORED)
  return value === 'light' || value === 'dark' ? value : 'system'
}

export function chooseTheme(chosen: Theme): void {
  theme.value = chosen
  if (chosen === 'system') localStorage.removeItem(STORED)
  else localStorage.setItem(STORED, chosen)
}

effect(() => {
  document.documentElement.dataset.theme = dark.value ? 'dark' : 'light'
})
