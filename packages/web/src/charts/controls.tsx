/** How all charts of a page are looked at. */
import { useEffect, useId } from 'preact/hooks'
import { Button } from '../components/button.tsx'
import { Checkbox, Segmented } from '../components/field.tsx'
import { axis, logarithmic, smoothing, zoom } from './view.ts'

export function ChartControls() {
  const id = useId()
  // A zoom is of one page.
  useEffect(
    () => () => {
      zoom.value = null
    },
    [],
  )
  return (
    <div class="chart-controls">
      <div class="row">
        <label for={id}>Smoothing</label>
        <input
          id={id}
          type="range"
          min={0}
          max={0.99}
          step={0.01}
          value={smoothing.value}
          onInput={(event) => {
            smoothing.value = event.currentTarget.valueAsNumber
          }}
        />
        <output for={id} class="chart-value">
          {smoothing.value.toFixed(2)}
        </output>
      </div>
      <Checkbox
        label="Log scale"
        checked={logarithmic.value}
        onChange={(on) => {
          logarithmic.value = on
        }}
      />
      <Segmented
        label="Horizontal axis"
        value={axis.value}
        options={[
          { value: 'step', label: 'Steps' },
          { value: 'time', label: 'Time' },
        ]}
        onChange={(chosen) => {
          axis.value = chosen
          zoom.value = null
        }}
      />
      {zoom.value && (
        <Button
          size="small"
          onClick={() => {
            zoom.value = null
          }}
        >
          Show all
        </Button>
      )}
    </div>
  )
}
