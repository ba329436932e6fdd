// Draws every figure of the page from the specification beside it.
for (const place of document.querySelectorAll("figure[data-spec]")) {
  const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
  window.vegaEmbed(place, spec, { renderer: "svg", actions: false }).then(
    () => place.classList.add("drawn"),
    (error) => { console.error(error); place.textContent = "This figure could not be drawn: " + error; },
  );
}
