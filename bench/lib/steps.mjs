// What a training step's CPU time goes into, with LoRA and QLoRA, over random models of known shapes: step.py says how.
import { PYTHON } from '../../scripts/lib.mjs'
import { askJson } from './environment.mjs'
import { columns, fixed } from './report.mjs'

export function measureSteps(shapes) {
  const steps = shapes.map((shape) => {
    process.stdout.write(`• A step of ${shape} … `)
    const step = askJson(PYTHON, ['bench/lib/step.py', '--shape', shape])
    console.log(`QLoRA at ${fixed(step.qlora_speed, 2)} of LoRA's speed`)
    return step
  })
  const heads = ['', 'CPU s', 'peak GB', 'in products', 'their GFLOP/s', "of a core's peak"]
  const lines = steps.flatMap((step) =>
    ['lora', 'qlora'].map((method) => {
      const { cpu_seconds, peak_memory_mb, product_share, product_gflops } = step[method]
      return [
        `${step.shape}, ${method}`,
        fixed(cpu_seconds, 2),
        fixed(peak_memory_mb / 1000, 2),
        `${fixed(100 * product_share, 0)}%`,
        fixed(product_gflops, 0),
        step.peak_gflops === null
          ? '–'
          : `${fixed((100 * product_gflops) / step.peak_gflops, 0)}% of ${step.peak_gflops}`,
      ]
    }),
  )
  console.log(`\n${steps[0].tokens} tokens, one thread\n${columns([heads, ...lines])}`)
  return steps
}
