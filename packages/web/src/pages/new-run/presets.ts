/** The recipes of this repository as starts to begin with. */
import recipes from 'virtual:recipes'
import { requestOf, same, valuesOf } from './form.ts'
import type { Values } from './values.ts'

export interface Preset {
  id: string
  title: string
  about: string
  values: Values
}

const TITLES: Record<string, string> = {
  'quick-lora': 'Quick LoRA',
  'qlora-small-memory': 'QLoRA',
  dora: 'DoRA',
  full: 'Full fine-tuning',
}

/** What a preset has nothing to say about. */
const OWN =
  /^(experiment_name|model_name|output_dir|overwrite|priority|resume_from|tags|dataset\.(dataset_path|dataset_format|validation_path|columns\..+|tags\..+))$/

const pick = (values: Values, own: boolean): Values =>
  Object.fromEntries(Object.entries(values).filter(([path]) => OWN.test(path) === own))

export const PRESETS: readonly Preset[] = Object.entries(TITLES).flatMap(([id, title]) => {
  const recipe = recipes.find((one) => one.id === id)
  return recipe
    ? [{ id, title, about: aboutOf(recipe.about, title), values: pick(valuesOf(recipe.request), false) }]
    : []
})

/** Without the name that stands above it. */
function aboutOf(text: string, title: string): string {
  const rest = text.startsWith(`${title}: `) ? text.slice(title.length + 2) : text
  return rest.charAt(0).toUpperCase() + rest.slice(1)
}

/** The preset's settings with the run's own name, model and data. Held-out rows of its own make no second split. */
export function withPreset(values: Values, preset: Preset): Values {
  const next = { ...pick(values, true), ...preset.values }
  if (next['dataset.validation_path']) delete (next as Record<string, unknown>)['dataset.validation_split']
  return next
}

/** How many fields differ from a preset. */
export function changesFrom(values: Values, preset: Preset): number {
  const [now, then] = [values, withPreset(values, preset)].map((each) => flat(requestOf(pick(each, false))))
  const paths = new Set([...Object.keys(now ?? {}), ...Object.keys(then ?? {})])
  return [...paths].filter((path) => !same(now?.[path], then?.[path])).length
}

const flat = (request: object): Values => valuesOf(request)
