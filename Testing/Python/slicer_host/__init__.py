"""Small hosts for what `slicer-core` lacks of Slicer, so that the module and its panel run in tests.

Written for these tests from Slicer's documented behaviour. Scene, nodes, logics, views' contents and files are Slicer's
own, and so is `slicer.util`; Qt is PySide6's, by the rules of PythonQt.

- `application`, `views`, `files`, `messages`, `packaging`, `sample_data`, `translation`: `slicer.app` and around it
- `scripted_module`, `modules`, `module_panel`: the base classes of a module; opening, reloading and closing one
- `parameter_node`, `parameter_types`, `gui_connectors`: `slicer.parameterNodeWrapper`
- `python_qt`, `ui_loader`, `qt_application`: `qt`
- `ctk_widgets`, `ctk_paths`: `ctk`
- `mrml_widgets`, `node_selector`, `segments_table`, `segment_editor`, `editor_effects`: `slicer.qMRML…`
- `fixtures`: what tests ask for; `pictures`: of widgets and views; `nodes`: what tests put into a scene
"""
